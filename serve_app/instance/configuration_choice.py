"""Chooses the configuration of a first `tiger up` that names none, by what is installed and by the GPUs.

vLLM for the CPU                             local
vLLM for GPUs, up to three GPUs of 80 GB     one-gpu
vLLM for GPUs, four or more GPUs of 80 GB    gpu
"""

from serve_app.instance.gpus import Gpu, ReadBuild, ReadGpus, installed_build, read_gpus
from serve_app.instance.processes import InstanceError

GIGABYTE = 10**9
NEEDED_MEMORY_BYTES = 80 * GIGABYTE
"""The memory for which configs/one-gpu.yaml and configs/gpu.yaml are written."""
GPUS_OF_THE_GPU_CONFIGURATION = 4


class ConfigurationChoice:
    def __init__(self, read_gpus: ReadGpus = read_gpus, read_build: ReadBuild = installed_build) -> None:
        self._read_gpus = read_gpus
        self._read_build = read_build

    def choose(self) -> str:
        """Returns the name of a configuration. Raises InstanceError, with what to do, if none fits."""
        if self._read_build() == "cpu":
            return "local"
        gpus = self._read_gpus()
        if not gpus:
            raise InstanceError(
                "this environment has vLLM for GPUs, and nvidia-smi shows no GPU that may be used: look at "
                "the driver and at CUDA_VISIBLE_DEVICES, or use the CPU with `make up PROFILE=cpu`"
            )
        small = [gpu for gpu in gpus if gpu.memory_bytes < NEEDED_MEMORY_BYTES]
        if small:
            raise InstanceError(_advice(small[0], [gpu for gpu in gpus if gpu not in small]))
        return "gpu" if len(gpus) >= GPUS_OF_THE_GPU_CONFIGURATION else "one-gpu"


def _advice(small: Gpu, large: list[Gpu]) -> str:
    lines = [
        f"GPU {small.index} ({small.name}) has {small.memory_bytes // GIGABYTE} GB of memory, and the "
        f"configuration one-gpu is for {NEEDED_MEMORY_BYTES // GIGABYTE} GB. Choose one of these:"
    ]
    if large:
        lines.append(f"- use a larger GPU of this machine: CUDA_VISIBLE_DEVICES={large[0].index} tiger up")
    lines += [
        "- start a configuration of your own, tiger up --config FILE.yaml: copy configs/one-gpu.yaml, keep "
        "one of its models or name a smaller one (models[].source), and lower max_context_tokens and "
        "serving.engine.max_num_seqs",
        "- start it as it is: tiger up --config one-gpu",
        "- use the CPU: make up PROFILE=cpu",
    ]
    return "\n".join(lines)
