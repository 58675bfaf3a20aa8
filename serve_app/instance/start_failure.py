"""Finds out why a replica could not start, as one line, and whether another try could help.

    Serve's message of a deployment    the error of the replica
    "Engine core initialization ..."   the error of the engine, in the worker logs of Ray's session

vLLM's engine runs in processes of its own. The replica sees only that they ended; their own error is in the
output of Ray's worker, which they inherit.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from registry.records import Record
from serve_app.instance.serve_client import ApplicationState

FAILED_TO_START = "failed to start"
MAX_REASON_CHARS = 600
# A traceback's last line, perhaps after vLLM's prefix: (EngineCore pid=7) ERROR 11-26 15:10:29 [core.py:1510]
PREFIX = r"(?:\((?P<process>\w+)[^)]*pid=\d+\) )?(?:ERROR \S+ \S+ \[[^\]]*\] )?"
CLASS = r"(?:\w+\.)+[A-Z]\w*|[A-Z]\w*(?:Error|Exception)"
ERROR_LINE = re.compile(rf"^{PREFIX}(?P<name>{CLASS}): (?P<text>.*)$")
PREFIX_PATTERN = re.compile(rf"^{PREFIX}")
ENGINE_PROCESSES = ("EngineCore", "Worker")
# These errors only say that another process has failed.
CONSEQUENCES = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "Frontend process failed during engine core initialization",
    "Traceback (most recent call last)",
)
# Ray LLM passes pydantic's errors on as the text of its own.
VALIDATION = re.compile(r"\d+ validation errors? for ")
PYDANTIC_DETAILS = re.compile(r" \[type=.*")
# The same arguments, files and packages give the same error in the next try.
FINAL_ERRORS = frozenset(
    {
        *("ValueError", "TypeError", "KeyError", "AttributeError", "NotImplementedError", "ValidationError"),
        *("FileNotFoundError", "NotADirectoryError", "PermissionError"),
        *("ModuleNotFoundError", "ImportError"),
        *("GatedRepoError", "RepositoryNotFoundError", "HFValidationError", "StorageUnfit", "CannotStart"),
    }
)
# Another process may be about to free memory.
PASSING = ("Free memory on device",)


class ErrorLine(Record):
    """An error in a log: its class without the module, its text, and the vLLM process that logged it."""

    name: str
    text: str
    process: str = ""

    @property
    def is_consequence(self) -> bool:
        return self.text.startswith(CONSEQUENCES)


class StartFailure(Record):
    reason: str
    is_final: bool
    """True if Serve tries no more, or if its next try would fail in the same way."""


class StartWatch:
    """Watches one start of applications.

    `logs` is the directory of the logs of Ray's session. None: they are on other machines. A log belongs to
    this start if it was written after the watch began, which is seen without the machine's clock.
    """

    def __init__(self, logs: Path | None) -> None:
        self._logs = logs
        self._at_begin = log_times(logs)
        self._seen: dict[str, list[tuple[str, str]]] = {}

    def new_failure(self, application: ApplicationState) -> StartFailure | None:
        """Returns why a replica could not start, once for each message of Serve. None: nothing new is known.

        A replica that fails while the application runs already is not part of a start: Serve replaces it.
        """
        if application.status not in ("DEPLOYING", "DEPLOY_FAILED"):
            return None
        messages = [(application.status, ""), *_messages(application)]
        if messages == self._seen.get(application.name):
            return None
        self._seen[application.name] = messages
        return find_failure(application, self._logs, self._at_begin)


def log_times(logs: Path | None) -> dict[Path, int]:
    """Returns the log files of Ray's workers, and when each was written last, in nanoseconds."""
    if logs is None:
        return {}
    found = (*logs.glob("worker-*.out"), *logs.glob("worker-*.err"))
    return {path: path.stat().st_mtime_ns for path in found}


def find_failure(
    application: ApplicationState, logs: Path | None, before: Mapping[Path, int]
) -> StartFailure | None:
    """Returns why the application does not start. None: nothing has failed yet, or the reason is not known.

    Only log files that are not as `log_times` found them `before` belong to this start.
    """
    has_failed = application.status == "DEPLOY_FAILED"
    for name, message in _messages(application):
        if not has_failed and FAILED_TO_START not in message:
            continue
        found = errors_in(message.splitlines())
        if not found:
            continue
        causes = [error for error in found if not error.is_consequence] or _engine_errors(logs, before)
        cause = (causes or found)[-1]
        reason = f"{name}{cause.name}: {cause.text}"[:MAX_REASON_CHARS]
        return StartFailure(reason=reason, is_final=has_failed or _is_final(cause))
    return None


def _messages(application: ApplicationState) -> list[tuple[str, str]]:
    """Returns the messages, each with the beginning of its line. Those of deployments say more."""
    deployments = [(f"{each.name}: ", each.message) for each in application.deployments]
    return [*deployments, ("", application.message)]


def errors_in(lines: Iterable[str]) -> list[ErrorLine]:
    """Returns the errors in the order of the lines. One in several lines, as pydantic's, becomes one line."""
    found: list[ErrorLine] = []
    is_open = False
    for line in lines:
        match = ERROR_LINE.match(line)
        if match is not None:
            name = match["name"].rpartition(".")[2]
            found.append(ErrorLine(name=name, text=match["text"], process=match["process"] or ""))
            is_open = VALIDATION.search(match["text"]) is not None
        elif is_open:
            rest = PREFIX_PATTERN.sub("", line)
            is_open = rest.startswith("  ") or rest[:1].isalpha()
            if is_open and not rest.startswith("    For further information"):
                text = f"{found[-1].text}: {PYDANTIC_DETAILS.sub('', rest.strip())}"
                found[-1] = found[-1].model_copy(update={"text": text})
    return found


def _engine_errors(logs: Path | None, before: Mapping[Path, int]) -> list[ErrorLine]:
    """Returns the errors of engine processes that are not consequences of others, the newest last."""
    times = {path: time_ns for path, time_ns in log_times(logs).items() if before.get(path) != time_ns}
    return [
        error
        for path in sorted(times, key=times.__getitem__)
        for error in errors_in(path.read_text(errors="replace").splitlines())
        if error.process.startswith(ENGINE_PROCESSES) and not error.is_consequence
    ]


def _is_final(error: ErrorLine) -> bool:
    is_lasting = error.name in FINAL_ERRORS or VALIDATION.search(error.text) is not None
    return is_lasting and not error.text.startswith(PASSING)
