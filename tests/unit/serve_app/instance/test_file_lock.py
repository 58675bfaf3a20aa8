"""A lock on a file, which one process holds at a time, and which a child process inherits."""

import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.instance.file_lock import locked


class Taken(Exception):
    pass


def test_lock_is_refused_while_it_is_held_and_given_back(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", Taken()), pytest.raises(Taken), locked(tmp_path / "lock", Taken()):
        pass
    with locked(tmp_path / "lock", Taken()):
        pass


def test_child_process_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", Taken()) as descriptor:
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,)
        )
    with pytest.raises(Taken), locked(tmp_path / "lock", Taken()):
        pass
    child.communicate(b"\n")
    with locked(tmp_path / "lock", Taken()):
        pass
