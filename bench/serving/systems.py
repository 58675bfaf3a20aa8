"""The measured systems: one base model behind four HTTP APIs. All are up at once; one at a time is asked.

    vllm           `python -m vllm.entrypoints.openai.api_server`, which `vllm serve` starts
    ray-serve-llm  Ray Serve LLM's `build_openai_app`, beside tiger in the same Ray, with the same flags
    tiger-openai   our `/openai/v1/chat/completions`
    tiger-native   our `/v1/generate_response`

All systems have the engine arguments and the environment of configs/local.yaml, but more places, and all of
tiger's plugins for vLLM (`vllm_patches.plugins`). The engines are therefore the same, and a ratio compares
what is in front of them. Tiger keeps a quarter of its places free for other users, and all requests here are
of one user. The two APIs of tiger share one engine.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import yaml

from bench.serving.native import BACKEND
from bench.temporary_instance import bearer, new_key, quiet, temporary_instance
from serve_app.app import llm_config
from serve_app.instance.instance import Instance
from serve_app.instance.ports import free_ports
from serve_app.instance.processes import marked_processes, stop_processes, wait_until
from serve_app.settings import CONFIG_DIRECTORY, BaseModelSettings, Settings

CHAT = "openai-chat"
READY_TIMEOUT_S = 600
RAY_NICENESS = 15
QUIET_S = 40.0
RAY_LLM_PREFIX = "/ray-llm"
NUM_PLACES = 22
"""The sequences that an engine runs at once. It is the smallest number of which one user may have 16."""
ROOT = Path(__file__).resolve().parent.parent.parent


class Processes:
    """The processes of one or several systems. `find` lists them, with their engines."""

    def __init__(self, find: Callable[[], list[psutil.Process]]) -> None:
        self.idle_cpu_share = 0.0
        self._find = find

    def cpu_s(self) -> float:
        """The CPU seconds so far of all processes but the engines."""
        return sum(_cpu_s(process) for process in self._find() if not _is_engine(process))

    def measure_idle(self) -> None:
        """Measure the CPU use at rest."""
        before_s, began_at = self.cpu_s(), time.perf_counter()
        time.sleep(QUIET_S)
        self.idle_cpu_share = (self.cpu_s() - before_s) / (time.perf_counter() - began_at)


@dataclass(frozen=True)
class System:
    """A system that can be asked. `backend` is the backend of vLLM's load generator for its API."""

    name: str
    backend: str
    url: str
    model: str
    headers: dict[str, str]
    processes: Processes


def on_ray(instance: Instance, model: str) -> list[System]:
    ours = on_tiger(instance, model)
    url = f"{instance.url}{RAY_LLM_PREFIX}/v1/chat/completions"
    return [System("ray-serve-llm", CHAT, url, model, {}, ours[0].processes), *ours]


def on_tiger(instance: Instance, model: str, user: str = "bench") -> list[System]:
    """The two APIs of tiger, with a new key of `user`."""
    processes = Processes(lambda: marked_processes(instance.home))
    headers = bearer(new_key(instance, user))
    paths = (
        ("tiger-openai", CHAT, "/openai/v1/chat/completions"),
        ("tiger-native", BACKEND, "/v1/generate_response"),
    )
    return [
        System(name, backend, instance.url + path, model, headers, processes) for name, backend, path in paths
    ]


def configuration(directory: Path) -> str:
    """Write the configuration of all systems below `directory`; returns its path."""
    values = yaml.safe_load((CONFIG_DIRECTORY / "local.yaml").read_text())
    for model in values["models"]:
        model["serving"]["engine"]["max_num_seqs"] = NUM_PLACES
    path = directory / "bench.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


@contextmanager
def instance_beside_ray_llm(config: str) -> Iterator[Instance]:
    """Tiger and Ray Serve LLM's app in one Ray, during the block."""
    ray_llm = {
        "name": "ray-llm",
        "route_prefix": RAY_LLM_PREFIX,
        "import_path": "bench.serving.ray_llm:build",
        "args": {"config": config},
        "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}},
    }
    with temporary_instance(config, [ray_llm]) as instance:
        instance.up(quiet)
        _wait(f"{instance.url}{RAY_LLM_PREFIX}/v1/models")
        yield instance


@contextmanager
def bare_vllm(base: BaseModelSettings, settings: Settings, log: Path) -> Iterator[System]:
    """vLLM's own OpenAI server, during the block. It loads all plugins of this environment, as tiger does."""
    (port,) = free_ports(1)
    source = base.weights_path(settings.weights_directory.expanduser())
    # Ray starts its workers, and the proxies in front of them, with this niceness.
    command = ["nice", "-n", str(RAY_NICENESS)]
    command += [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", source]
    command += ["--served-model-name", base.id, "--host", "127.0.0.1", "--port", str(port)]
    command += list(_as_options(llm_config(base, settings).engine_kwargs))
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env=os.environ | base.serving.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = psutil.Process(server.pid)

    def tree() -> list[psutil.Process]:
        return [process, *process.children(recursive=True)]

    try:
        url = f"http://127.0.0.1:{port}/v1"
        _wait(f"{url}/models", lambda: server.poll() is None)
        yield System("vllm", CHAT, f"{url}/chat/completions", base.id, {}, Processes(tree))
    finally:
        with suppress(psutil.NoSuchProcess):
            stop_processes(tree(), grace_s=10)
        server.wait()


def _as_options(arguments: dict[str, object]) -> Iterator[str]:
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{option}" if value else f"--no-{option}"
        else:
            yield from (f"--{option}", json.dumps(value) if isinstance(value, dict) else str(value))


def _wait(url: str, may_come: Callable[[], bool] = lambda: True) -> None:
    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(url, timeout=5, trust_env=False).is_success
        return False

    if not wait_until(lambda: answers() or not may_come(), READY_TIMEOUT_S) or not may_come():
        raise RuntimeError(f"{url} did not become ready")


def _is_engine(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(part.startswith("VLLM::") for part in process.cmdline()[:1])
    return False


def _cpu_s(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
