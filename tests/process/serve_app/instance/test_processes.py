"""Only our own processes are recognised as ours, and only they are stopped."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serve_app.instance.processes import (
    MARKER,
    ProcessIdentity,
    identify,
    marked_processes,
    start_process,
    stop_process,
    stop_processes,
    wait_until,
)

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF_SLEEPER = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)",
]


def start_marked(command: list[str], home: Path, log: Path) -> ProcessIdentity:
    return start_process(command, {**os.environ, MARKER: str(home), "PYTHONUNBUFFERED": "1"}, log)


@pytest.fixture
def unmarked() -> Iterator[ProcessIdentity]:
    process = subprocess.Popen(SLEEPER)
    yield identify(process)
    process.kill()
    process.wait()


def test_only_processes_with_the_marker_of_this_home_are_stopped(
    tmp_path: Path, unmarked: ProcessIdentity
) -> None:
    ours = start_marked(SLEEPER, tmp_path / "a", tmp_path / "log")
    neighbour = start_marked(SLEEPER, tmp_path / "ab", tmp_path / "log")
    assert [process.pid for process in marked_processes(tmp_path / "a")] == [ours.pid]

    stop_processes(marked_processes(tmp_path / "a"), grace_s=5)

    assert not ours.is_alive
    assert neighbour.is_alive and unmarked.is_alive
    stop_process(neighbour, grace_s=5)


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    deaf = start_marked(DEAF_SLEEPER, tmp_path, tmp_path / "log")
    assert wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), 10)

    stop_process(deaf, grace_s=0.2)

    assert not deaf.is_alive


def test_a_later_process_with_the_same_id_is_not_ours(unmarked: ProcessIdentity) -> None:
    stale = ProcessIdentity(pid=unmarked.pid, started=f"{unmarked.started}0")

    stop_process(stale, grace_s=1)

    assert not stale.is_alive
    assert unmarked.is_alive


def test_a_process_of_an_earlier_boot_is_not_ours(unmarked: ProcessIdentity) -> None:
    ticks = unmarked.started.rpartition("/")[2]
    assert not ProcessIdentity(pid=unmarked.pid, started=f"another-boot/{ticks}").is_alive


def test_a_dead_process_that_nobody_reaped_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = identify(process)

    assert wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE, 10)

    assert not identity.is_alive
    process.wait()


def test_this_process_is_spared_even_when_it_carries_the_marker(tmp_path: Path) -> None:
    program = (
        "from serve_app.instance.processes import *; import sys; print(marked_processes(Path(sys.argv[1])))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, MARKER: str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "[]"
