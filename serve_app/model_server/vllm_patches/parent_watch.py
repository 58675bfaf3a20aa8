"""The processes of an engine end with the process that started them, whatever ended that one.

vLLM stops its engine and worker when it stops in good order. After a `kill -9` or an out-of-memory kill of
the replica they would stay, with their memory and their GPU, beside the engine of the replica that takes its
place. `register` is called in each of vLLM's processes, as a plugin (`vllm.general_plugins`, pyproject.toml).
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


def register() -> None:
    """In a process that `multiprocessing` did not start, such as a replica, nothing happens."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), name="parent-watch", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
