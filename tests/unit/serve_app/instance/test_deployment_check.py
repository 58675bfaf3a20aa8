import pytest

from serve_app.instance.base_weights import BaseWeights, Weights
from serve_app.instance.deployment_check import DeploymentCheck, check_gpu_memory
from serve_app.instance.gpu_machine import GpuMachine
from serve_app.instance.gpus import Build, Gpu
from serve_app.instance.processes import InstanceError
from serve_app.settings import BaseModelSettings, Settings, load_settings
from tests.support.hub import FakeHub
from tests.unit.serve_app.instance.test_gpu_machine import READY

H100 = Gpu(index=0, uuid="GPU-0", name="NVIDIA H100", memory_bytes=80 * 10**9, free_bytes=79 * 10**9)
L4 = Gpu(index=1, uuid="GPU-1", name="NVIDIA L4", memory_bytes=24 * 10**9, free_bytes=23 * 10**9)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings("gpu")


def run(
    settings: Settings,
    build: Build,
    *gpus: Gpu,
    hub: FakeHub | None = None,
    free: int = 10**12,
    machine: GpuMachine = READY,
) -> list[str]:
    lines: list[str] = []
    weights = BaseWeights(hub or FakeHub(), free_bytes=lambda _: free)
    DeploymentCheck(weights, lambda: gpus, lambda: build, lambda: machine).run(settings, lines.append)
    return lines


def with_engine(settings: Settings, **arguments: object) -> BaseModelSettings:
    model = settings.models[0]
    serving = model.serving.model_copy(update={"engine": arguments})
    return model.model_copy(update={"serving": serving})


def test_what_fits_is_downloaded(settings: Settings) -> None:
    hub = FakeHub()
    lines = run(settings, "gpu", H100, hub=hub)
    assert hub.downloaded == [model.source for model in settings.models]
    assert len(lines) == 2


def test_nothing_is_downloaded_if_the_gpu_is_too_small(settings: Settings) -> None:
    hub = FakeHub()
    small = L4.model_copy(update={"memory_bytes": 16 * 10**9, "free_bytes": 16 * 10**9})
    with pytest.raises(InstanceError, match=r"deepseek-r1-8b take 16\.0 GB.*14\.4 GB"):
        run(settings, "gpu", small, hub=hub)
    assert hub.downloaded == []


@pytest.mark.parametrize(("config", "build"), [("gpu", "cpu"), ("local", "gpu")])
def test_configuration_for_the_other_build_is_refused(config: str, build: Build) -> None:
    with pytest.raises(InstanceError, match=r"accelerator\.kind.*PROFILE="):
        run(load_settings(config), build, H100)


def test_gpu_configuration_without_a_gpu_is_refused(settings: Settings) -> None:
    with pytest.raises(InstanceError, match="nvidia-smi"):
        run(settings, "gpu")


def test_cpu_configuration_needs_neither_hub_nor_gpu() -> None:
    assert run(load_settings("local"), "cpu", hub=FakeHub(RuntimeError("asked"))) == []


def test_all_that_is_missing_is_said_at_once_and_nothing_is_downloaded(settings: Settings) -> None:
    hub = FakeHub()
    machine = READY.model_copy(update={"has_nvcc": False, "has_python_headers": False})
    with pytest.raises(InstanceError, match=r"cannot serve on GPUs yet:\nnvcc.*\nPython\.h"):
        run(settings, "gpu", H100, hub=hub, machine=machine)
    assert hub.downloaded == []


@pytest.mark.parametrize(
    ("config", "memory_bytes", "is_warned"),
    [("one-gpu", 64 * 10**9, True), ("one-gpu", 128 * 10**9, False), ("gpu", 64 * 10**9, False)],
)
def test_too_little_host_memory_for_weights_that_wait_is_a_warning(
    config: str, memory_bytes: int, is_warned: bool
) -> None:
    machine = READY.model_copy(update={"memory_bytes": memory_bytes})
    lines = run(load_settings(config), "gpu", H100, machine=machine)
    assert any("host memory" in line and "64.0 GB" in line for line in lines) is is_warned


EIGHT_B = Weights(size_bytes=16 * 10**9, is_float32=False)
EIGHT_B_FLOAT32 = Weights(size_bytes=32 * 10**9, is_float32=True)


@pytest.mark.parametrize(
    ("weights", "engine"),
    [
        (EIGHT_B, {}),
        (EIGHT_B, {"gpu_memory_utilization": 0.8}),
        (EIGHT_B_FLOAT32, {"dtype": "bfloat16"}),
        (EIGHT_B_FLOAT32, {"dtype": "float32", "tensor_parallel_size": 2}),
        (EIGHT_B_FLOAT32, {"dtype": "float32", "quantization": "fp8"}),
    ],
)
def test_weights_fit(settings: Settings, weights: Weights, engine: dict[str, object]) -> None:
    check_gpu_memory(with_engine(settings, **engine), weights, (L4,))


@pytest.mark.parametrize(
    ("weights", "engine"),
    [
        (EIGHT_B, {"gpu_memory_utilization": 0.4}),
        (EIGHT_B_FLOAT32, {"dtype": "float32"}),
    ],
)
def test_weights_that_do_not_fit_are_said_with_both_sizes(
    settings: Settings, weights: Weights, engine: dict[str, object]
) -> None:
    with pytest.raises(InstanceError, match=r"GPU 1 \(NVIDIA L4\) has 24\.0 GB"):
        check_gpu_memory(with_engine(settings, **engine), weights, (L4,))


def test_gpu_that_others_use_is_said_so(settings: Settings) -> None:
    used = H100.model_copy(update={"free_bytes": 10 * 10**9})
    with pytest.raises(InstanceError, match=r"vLLM may use 10\.0 GB.*10\.0 GB are free.*End other processes"):
        check_gpu_memory(with_engine(settings), EIGHT_B, (used,))


def test_largest_gpu_counts(settings: Settings) -> None:
    check_gpu_memory(with_engine(settings, dtype="float32"), EIGHT_B_FLOAT32, (L4, H100))
