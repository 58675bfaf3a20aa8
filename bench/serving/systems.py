"""What is asked: one base model behind four front doors on one machine, all up at once, one asked at a time.

    vllm           `python -m vllm.entrypoints.openai.api_server`, what `vllm serve` starts
    ray-serve-llm  Ray Serve LLM's `build_openai_app`, beside tiger in the same Ray, with the same flags
    tiger-openai   our `/openai/v1/chat/completions`
    tiger-native   our `/v1/generate_response`

The engine arguments and the environment are those of configs/local.yaml, the same for all, but for more
places: tiger keeps a quarter of them free for the next user, and all requests here are one user's. The two
doors of tiger share one engine.
"""

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
from serve_app.instance.serve_client import CLUSTER_DIRECTORY
from serve_app.settings import CONFIG_DIRECTORY, BaseModelSettings, Settings

CHAT = "openai-chat"
READY_TIMEOUT_S = 600
RAY_NICENESS = 15
QUIET_S = 40.0
RAY_LLM_PREFIX = "/ray-llm"
NUM_PLACES = 22
"""Sequences that an engine runs at once: the fewest of which one user may have 16."""
PLUGINS_OF_BARE = {"VLLM_PLUGINS": "tiger_grouped_lora"}
"""What of ours vLLM has when it is not ours: with adapters enabled it is slow without, adapters or not."""
ROOT = Path(__file__).resolve().parent.parent.parent


class Processes:
    """All that work for a system, or for several; `find` lists them, their engines included."""

    def __init__(self, find: Callable[[], list[psutil.Process]]) -> None:
        self.idle_cpu_share = 0.0
        self._find = find

    def cpu_s(self) -> float:
        """CPU seconds so far of every process but the engines' own."""
        return sum(_cpu_s(process) for process in self._find() if not _is_engine(process))

    def measure_idle(self) -> None:
        """What they use while nobody asks anything."""
        before_s, began_at = self.cpu_s(), time.perf_counter()
        time.sleep(QUIET_S)
        self.idle_cpu_share = (self.cpu_s() - before_s) / (time.perf_counter() - began_at)


@dataclass(frozen=True)
class System:
    """`backend`: of vLLM's load generator."""

    name: str
    backend: str
    url: str
    model: str
    headers: dict[str, str]
    processes: Processes


def on_ray(instance: Instance, model: str) -> list[System]:
    processes = Processes(lambda: marked_processes(instance.home))

    def system(name: str, backend: str, path: str, headers: dict[str, str]) -> System:
        return System(name, backend, instance.url + path, model, headers, processes)

    ours = bearer(new_key(instance))
    return [
        system("ray-serve-llm", CHAT, f"{RAY_LLM_PREFIX}/v1/chat/completions", {}),
        system("tiger-openai", CHAT, "/openai/v1/chat/completions", ours),
        system("tiger-native", BACKEND, "/v1/generate_response", ours),
    ]


def configuration(directory: Path) -> str:
    """The path, below `directory`, of the configuration that all are asked with."""
    values = yaml.safe_load((CONFIG_DIRECTORY / "local.yaml").read_text())
    for model in values["models"]:
        model["serving"]["engine"]["max_num_seqs"] = NUM_PLACES
    path = directory / "bench.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


@contextmanager
def instance_beside_ray_llm(directory: Path, config: str) -> Iterator[Instance]:
    """Tiger and Ray Serve LLM's app in one Ray, for the block; `directory` is for the Serve config."""
    serve_config = yaml.safe_load((CLUSTER_DIRECTORY / "serve.local.yaml").read_text())
    serve_config["applications"][0]["args"] = {"config": config}
    serve_config["applications"].append(
        {
            "name": "ray-llm",
            "route_prefix": RAY_LLM_PREFIX,
            "import_path": "bench.serving.ray_llm:build",
            "args": {"config": config},
            "runtime_env": {"env_vars": {"PYTHONPATH": str(ROOT)}},
        }
    )
    path = directory / "serve.yaml"
    path.write_text(yaml.safe_dump(serve_config))
    with temporary_instance(config, path) as instance:
        instance.up(quiet)
        _wait(f"{instance.url}{RAY_LLM_PREFIX}/v1/models")
        yield instance


@contextmanager
def bare_vllm(base: BaseModelSettings, settings: Settings, log: Path) -> Iterator[System]:
    """vLLM's own OpenAI server for the block."""
    (port,) = free_ports(1)
    source = base.weights_path(settings.weights_directory.expanduser())
    # Ray starts its workers so, and what is in front of them.
    command = ["nice", "-n", str(RAY_NICENESS)]
    command += [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", source]
    command += ["--served-model-name", base.id, "--host", "127.0.0.1", "--port", str(port)]
    command += list(_as_options(llm_config(base, settings).engine_kwargs))
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env=os.environ | base.serving.environment | PLUGINS_OF_BARE,
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
            yield from (f"--{option}", str(value))


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
