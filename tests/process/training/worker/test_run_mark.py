"""A process that others ask for: whether it lives, is dead but not reaped, or another one has its id."""

import subprocess
import sys

import psutil

from tests.support.waiting import wait_until
from training.worker.run_mark import LocalProcess


def test_this_process_lives_until_another_has_its_id() -> None:
    here = LocalProcess()
    assert here.is_alive()
    assert not LocalProcess(here.pid, here.created_s - 1).is_alive()


def test_process_that_was_killed_is_dead_before_and_after_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = LocalProcess(child.pid, psutil.Process(child.pid).create_time())
    assert process.is_alive()
    child.kill()
    wait_until(lambda: not process.is_alive(), 20)
    child.wait()
    assert not process.is_alive()
