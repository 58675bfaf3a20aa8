"""Finds reasons for which the application could never start, before Ray is asked to start it.

    installed build -> GPUs, driver, compilers -> weights: there? room for them?
        -> GPU and host memory for the weights -> download

All of it holds for one machine. The nodes of a cluster can be different, so nothing of it is checked there.
"""

from collections.abc import Mapping

from serve_app.instance.base_weights import BaseWeights, Weights
from serve_app.instance.gpu_machine import GpuMachine, ReadMachine, problems_of, read_machine
from serve_app.instance.gpus import Gpu, ReadBuild, ReadGpus, installed_build, read_gpus
from serve_app.instance.model_hub import HuggingFaceHub
from serve_app.instance.processes import InstanceError, Report
from serve_app.settings import BaseModelSettings, Settings

DEFAULT_MEMORY_UTILIZATION = 0.9
"""vLLM's default of `gpu_memory_utilization`, or a little less."""
PART_FOR_WEIGHTS = 0.6
"""The part of the host memory that waiting weights may take. The rest is for adapters and processes."""
# With these engine arguments the weights take another space in memory than on the disk.
ARGUMENTS_THAT_CHANGE_SIZE = frozenset({"quantization", "load_format", "cpu_offload_gb", "hf_overrides"})


class DeploymentCheck:
    """The checks of one machine. Their view of the machine and of the hub enters through the constructor."""

    def __init__(
        self,
        weights: BaseWeights | None = None,
        read_gpus: ReadGpus = read_gpus,
        read_build: ReadBuild = installed_build,
        read_machine: ReadMachine = read_machine,
    ) -> None:
        self._weights = weights or BaseWeights(HuggingFaceHub())
        self._read_gpus = read_gpus
        self._read_build = read_build
        self._read_machine = read_machine

    def run(self, settings: Settings, report: Report) -> None:
        """Raises InstanceError if the application cannot start. Downloads weights that are missing."""
        self._check_build(settings)
        gpus = self._gpus_for(settings)
        machine = self._read_machine() if gpus else None
        if machine is not None and (problems := problems_of(machine)):
            raise InstanceError("\n".join(["this machine cannot serve on GPUs yet:", *problems]))
        found = self._weights.check(settings.models, report)
        for model in settings.models:
            if gpus and model.id in found.by_model:
                check_gpu_memory(model, found.by_model[model.id], gpus)
        if machine is not None:
            warn_of_host_memory(settings, found.by_model, machine, report)
        self._weights.download(found, report)

    def _check_build(self, settings: Settings) -> None:
        build = self._read_build()
        for model in settings.models:
            kind = model.serving.accelerator.kind
            if kind != build:
                raise InstanceError(
                    f"{model.id} is to be served on a {kind.upper()} (models[].serving.accelerator.kind), "
                    f"and this environment has vLLM for the {build.upper()}: choose another configuration "
                    f"with --config, or `make up PROFILE={kind}`"
                )

    def _gpus_for(self, settings: Settings) -> tuple[Gpu, ...]:
        if all(model.serving.accelerator.kind == "cpu" for model in settings.models):
            return ()
        gpus = self._read_gpus()
        if not gpus:
            raise InstanceError(
                "the configuration serves on GPUs, and nvidia-smi shows none that may be used: look at the "
                "driver and at CUDA_VISIBLE_DEVICES"
            )
        return gpus


def check_gpu_memory(model: BaseModelSettings, weights: Weights, gpus: tuple[Gpu, ...]) -> None:
    """Raises InstanceError if the weights alone take more than vLLM may use of the freest GPU."""
    engine = model.serving.engine
    if ARGUMENTS_THAT_CHANGE_SIZE & engine.keys():
        return
    gpu = max(gpus, key=lambda gpu: gpu.free_bytes)
    utilization = float(engine.get("gpu_memory_utilization", DEFAULT_MEMORY_UTILIZATION))
    num_workers = int(engine.get("tensor_parallel_size", 1)) * int(engine.get("pipeline_parallel_size", 1))
    halved = weights.is_float32 and engine.get("dtype", "auto") not in ("float32", "float")
    needed = weights.size_bytes // (2 if halved else 1) // num_workers
    allowed = min(int(utilization * gpu.memory_bytes), gpu.free_bytes)
    if needed >= allowed:
        raise InstanceError(
            f"the weights of {model.id} take {_gigabytes(needed)} of GPU memory, and vLLM may use "
            f"{_gigabytes(allowed)}: GPU {gpu.index} ({gpu.name}) has {_gigabytes(gpu.memory_bytes)}, "
            f"{_gigabytes(gpu.free_bytes)} are free, and gpu_memory_utilization is {utilization:g}. "
            "End other processes on it, raise gpu_memory_utilization, choose a smaller model "
            "(models[].source), or use more GPUs with tensor_parallel_size"
        )


def warn_of_host_memory(
    settings: Settings, weights: Mapping[str, Weights], machine: GpuMachine, report: Report
) -> None:
    """Reports if the weights that wait in host memory for their turn on the GPU leave too little of it."""
    needed = sum(
        weights[model.id].size_bytes * (model.serving.num_replicas + model.training.num_workers)
        for model in settings.models
        if model.training.share_gpu and model.id in weights
    )
    if needed > PART_FOR_WEIGHTS * machine.memory_bytes:
        report(
            f"warning: {_gigabytes(needed)} of weights wait in host memory for their turn on the GPU "
            f"(models[].training.share_gpu), and this machine has {_gigabytes(machine.memory_bytes)}"
        )


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
