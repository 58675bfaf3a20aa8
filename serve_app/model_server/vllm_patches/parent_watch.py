"""Ends the processes of an engine when the process that started them has ended for any reason.

vLLM stops its engine and its worker in an orderly stop. After a `kill -9` or an out-of-memory kill of the
replica they would stay, with their memory and their GPU, beside the engine of the next replica. `register` is
called in each of vLLM's processes, as a plugin (`vllm.general_plugins`, pyproject.toml).
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess


def register() -> None:
    """Starts the watch. It does nothing in a process that `multiprocessing` did not start, as a replica."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), name="parent-watch", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
