"""Processes of one instance: told apart from all others, and stopped by id, never by name.

A process is known in two ways. The ones we start are written down as a `ProcessIdentity`, which no later
process with the same id matches. Everything they start in turn (Ray workers, vLLM engines, which can outlive
a killed replica) inherits the marker `TIGER_INSTANCE=<home>` in its environment.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from registry.records import Record

MARKER = "TIGER_INSTANCE"
POLL_INTERVAL_S = 0.1

Report = Callable[[str], None]


class InstanceError(Exception):
    """Something the operator can act on; the message is one line, or a line and details below it."""


class ProcessIdentity(Record):
    """A process id, and when it was started: counted by the kernel, so a changed clock changes nothing."""

    pid: int
    started: str

    @property
    def is_alive(self) -> bool:
        return process_start(self.pid) == self.started


def process_start(pid: int) -> str | None:
    """Boot and tick at which `pid` was started; None when there is none, or a dead one not yet reaped."""
    try:
        # The command name, in parentheses, may hold spaces; state and start time are 1st and 20th after it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in ("Z", "X"):
        return None
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{fields[19]}"


def identify(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    return ProcessIdentity(pid=process.pid, started=process_start(process.pid) or "gone")


def start_process(command: list[str], environment: Mapping[str, str], log: Path) -> ProcessIdentity:
    """Start `command` in a session of its own: Ctrl-C in the terminal must not reach it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return identify(process)


def processes_with(variable: str, value: str) -> list[psutil.Process]:
    """All processes with this in their environment, less this one and its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and _environment(process).get(variable) == value
    ]


def marked_processes(home: Path) -> list[psutil.Process]:
    return processes_with(MARKER, str(home))


def _environment(process: psutil.Process) -> dict[str, str]:
    """Empty for a process of another user, or one that is ending."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def stop_processes(processes: list[psutil.Process], grace_s: float) -> None:
    """SIGTERM, then SIGKILL for those that are still there after `grace_s`."""
    for process in processes:
        _signal(process.terminate)
    _, remaining = psutil.wait_procs(processes, timeout=grace_s)
    for process in remaining:
        _signal(process.kill)
    psutil.wait_procs(remaining, timeout=5)


def stop_process(identity: ProcessIdentity | None, grace_s: float) -> None:
    """Stop this very process; a later one with the same id is left alone."""
    if identity is not None and identity.is_alive:
        try:
            stop_processes([psutil.Process(identity.pid)], grace_s)
        except psutil.NoSuchProcess:
            return


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return


def wait_until(condition: Callable[[], bool], timeout_s: float, interval_s: float = POLL_INTERVAL_S) -> bool:
    """Poll `condition`; False when it does not hold within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True
