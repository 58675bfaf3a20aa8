"""A chain of real processes, like that of a replica, its engine and its worker."""

import multiprocessing
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import psutil
import pytest

from serve_app.instance.processes import wait_until
from serve_app.model_server.vllm_patches import parent_watch

CHAIN = """
import multiprocessing, os, time
from serve_app.model_server.vllm_patches import parent_watch

def work():
    parent_watch.register()
    print(os.getpid(), flush=True)
    time.sleep(600)

def run_engine():
    parent_watch.register()
    spawn = multiprocessing.get_context("spawn")
    spawn.Process(target=work).start()
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=run_engine).start()
    time.sleep(600)
"""


def runs(process: psutil.Process) -> bool:
    """Return True if the process runs. A process that has ended is a zombie until its parent looks."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("victim", ["replica", "engine"])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, victim: str) -> None:
    script = tmp_path / "chain.py"
    script.write_text(CHAIN)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as replica:
        assert replica.stdout is not None
        engine, worker = (psutil.Process(int(replica.stdout.readline())) for _ in range(2))
        if engine.ppid() != replica.pid:
            engine, worker = worker, engine
        try:
            assert worker.ppid() == engine.pid
            (replica if victim == "replica" else engine).kill()
            assert wait_until(lambda: not runs(engine) and not runs(worker), 30)
        finally:
            for process in (replica, engine, worker):
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue


def test_process_that_multiprocessing_did_not_start_is_left_alone() -> None:
    assert multiprocessing.parent_process() is None
    parent_watch.register()


def test_vllm_loads_it_as_a_plugin() -> None:
    (plugin,) = [p for p in entry_points(group="vllm.general_plugins") if p.name == "tiger_parent_watch"]
    assert plugin.load() is parent_watch.register
