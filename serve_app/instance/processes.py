"""Finds the processes of one instance among all others, and stops them by id, never by name.

A process is recognised in one of two ways. Each process that we start is stored as a `ProcessIdentity`, which
does not match a later process with the same id. The processes that they start (Ray workers, vLLM engines,
which can outlive a killed replica) inherit the marker `TIGER_INSTANCE=<home>` in their environment.
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
    """An error that the operator can repair. The message is one line, or a line with details below it."""


class ProcessIdentity(Record):
    """A process id and the time of its start in the kernel's count, which does not depend on the clock."""

    pid: int
    started: str

    @property
    def is_alive(self) -> bool:
        return process_start(self.pid) == self.started


def process_start(pid: int) -> str | None:
    """Returns the boot and the tick at which `pid` started; None: there is no such process, or it is dead."""
    try:
        # The command name, in parentheses, may have spaces. After it, the state is the 1st field and the
        # start time the 20th.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in ("Z", "X"):
        return None
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{fields[19]}"


def identify(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    return ProcessIdentity(pid=process.pid, started=process_start(process.pid) or "gone")


def start_process(command: list[str], environment: Mapping[str, str], log: Path) -> ProcessIdentity:
    """Starts `command` in a separate session, so that Ctrl-C in the terminal does not reach it."""
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
    """Returns all processes with this variable in their environment, except this one and its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and _environment(process).get(variable) == value
    ]


def marked_processes(home: Path) -> list[psutil.Process]:
    return processes_with(MARKER, str(home))


def _environment(process: psutil.Process) -> dict[str, str]:
    """Returns the environment of a process. It is empty for another user's process and for one that ends."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def stop_processes(processes: list[psutil.Process], grace_s: float) -> None:
    """Sends SIGTERM, and after `grace_s` SIGKILL to those that still run."""
    for process in processes:
        _signal(process.terminate)
    _, remaining = psutil.wait_procs(processes, timeout=grace_s)
    for process in remaining:
        _signal(process.kill)
    psutil.wait_procs(remaining, timeout=5)


def stop_process(identity: ProcessIdentity | None, grace_s: float) -> None:
    """Stops exactly this process. A later process with the same id is not touched."""
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
    """Polls `condition` until it holds. Returns False if it does not hold within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True
