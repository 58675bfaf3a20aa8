"""The programs and the driver that a machine needs to serve on GPUs, beside Python's packages.

When an engine starts, FlashInfer compiles kernels with nvcc, and Triton compiles its launchers with a C
compiler and Python's headers.
"""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from registry.records import Record
from serve_app.instance.gpus import READ_TIMEOUT_S

COMMAND = ("nvidia-smi", "--query-gpu=driver_version,compute_mode", "--format=csv,noheader")
FIRST_DRIVER_OF_CUDA_13 = 580
CUDA_DIRECTORY = Path("/usr/local/cuda")
UNSHARED = ("Exclusive", "Prohibited")
"""The beginnings of the compute modes in which several processes may not use one GPU."""


class GpuMachine(Record):
    drivers: tuple[tuple[str, str], ...]
    """The version of the driver and the compute mode of each GPU."""
    has_nvcc: bool
    has_compilers: bool
    has_python_headers: bool
    memory_bytes: int


ReadMachine = Callable[[], GpuMachine]


def read_machine() -> GpuMachine:
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=READ_TIMEOUT_S)
    return GpuMachine(
        drivers=parse_drivers(done.stdout),
        has_nvcc=has_nvcc(os.environ),
        has_compilers=has_compilers(os.environ),
        has_python_headers=(Path(sysconfig.get_path("include")) / "Python.h").exists(),
        memory_bytes=psutil.virtual_memory().total,
    )


def parse_drivers(printed: str) -> tuple[tuple[str, str], ...]:
    """Returns version and compute mode of lines such as `580.95.05, Default`."""
    pairs = (line.partition(", ") for line in printed.splitlines())
    return tuple((version.strip(), mode.strip()) for version, comma, mode in pairs if comma)


def has_nvcc(environment: Mapping[str, str], default: Path = CUDA_DIRECTORY) -> bool:
    """Returns True if FlashInfer would find nvcc: it looks at CUDA_HOME, CUDA_PATH, PATH and `default`."""
    if directory := environment.get("CUDA_HOME") or environment.get("CUDA_PATH"):
        return (Path(directory) / "bin" / "nvcc").exists()
    return _is_program("nvcc", environment) or (default / "bin" / "nvcc").exists()


def has_compilers(environment: Mapping[str, str]) -> bool:
    """Returns True if Triton finds a C compiler and FlashInfer a C++ compiler."""
    c_compilers = [environment["CC"]] if "CC" in environment else ["gcc", "clang"]
    return any(_is_program(name, environment) for name in c_compilers) and _is_program(
        environment.get("CXX", "c++"), environment
    )


def _is_program(name: str, environment: Mapping[str, str]) -> bool:
    return shutil.which(name, path=environment.get("PATH", os.defpath)) is not None


def problems_of(machine: GpuMachine) -> list[str]:
    """Returns one line for each thing without which an engine could not start on this machine."""
    found = []
    for version, mode in dict.fromkeys(machine.drivers):
        major = version.partition(".")[0]
        if major.isdecimal() and int(major) < FIRST_DRIVER_OF_CUDA_13:
            found.append(
                f"the driver {version} is too old for CUDA 13: install {FIRST_DRIVER_OF_CUDA_13} or later"
            )
        if mode.startswith(UNSHARED):
            found.append(
                f"the compute mode of a GPU is {mode}: set it with `nvidia-smi --compute-mode=DEFAULT`"
            )
    if not machine.has_nvcc:
        found.append(
            "nvcc is missing: install the toolkit of CUDA 13, and name its directory in CUDA_HOME if it is "
            f"neither on PATH nor in {CUDA_DIRECTORY}"
        )
    if not machine.has_compilers:
        found.append("a C or C++ compiler is missing: install gcc and g++, or name them in CC and CXX")
    if not machine.has_python_headers:
        found.append("Python.h is missing: install the headers of this Python, such as python3.11-dev")
    return found
