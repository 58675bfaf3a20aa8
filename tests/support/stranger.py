"""Acts as another user of the machine: `nobody`, who knows every address and has no credentials."""

import os
import pickle
import pwd
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

STRANGER = pwd.getpwnam("nobody")
needs_a_stranger = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")


def run_as_stranger(command: Sequence[str], text: str = "", timeout_s: float = 60) -> str:
    """Run a command as the stranger; returns its output on both streams until it ends or the time is over."""
    process = subprocess.Popen(
        command,
        user=STRANGER.pw_uid,
        group=STRANGER.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        return process.communicate(text, timeout_s)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def as_stranger(make: Callable[[], T]) -> T:
    """The result of `make()` as the stranger, in a copy of this process. It may import nothing new."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.setgroups([])
            os.setgid(STRANGER.pw_gid)
            os.setuid(STRANGER.pw_uid)
            result = pickle.dumps(make())
        except BaseException as error:
            result = pickle.dumps(error)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(result)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if isinstance(result, BaseException):
        raise result
    return result


def connects_to_socket(path: str) -> bool:
    """Return True if a process listens on this Unix socket and this user may connect to it."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except PermissionError:
            return False
    return True
