"""Measures the memory of an instance's processes, by kind of process."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import psutil

from serve_app.instance.instance import Instance
from serve_app.instance.processes import marked_processes


def pss_by_kind(instance: Instance) -> dict[str, int]:
    """The proportional set size of each kind in bytes, the largest first. Shared pages are counted once."""
    processes = list(marked_processes(instance.home))
    if (storage := instance.state.storage) is not None:
        processes.append(psutil.Process(storage.pid))
    total: Counter[str] = Counter()
    for process in processes:
        try:
            total[kind(process.cmdline())] += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return dict(total.most_common())


def kind(command: Sequence[str]) -> str:
    """The kind of a process, by its command line.

    For example `raylet`, `log_monitor.py`, `ray.scripts.scripts`, `multiprocessing.forkserver`, or
    `ray::ServeReplica:tiger:Ingress` without the method that it runs.
    """
    title = command[0].partition(" ")[0] if command else "?"
    if title.startswith("ray::"):
        return title.partition(".")[0]
    name = Path(title).name
    if not name.startswith("python"):
        return name
    for before, argument in pairwise(command):
        if before == "-m":
            return argument
        if before == "-c":
            return argument.split()[1].rstrip(";")  # `from multiprocessing.forkserver import main; ...`
        if argument.endswith(".py"):
            return Path(argument).name
    return name
