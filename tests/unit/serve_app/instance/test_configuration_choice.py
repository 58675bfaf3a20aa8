import pytest

from serve_app.instance.configuration_choice import ConfigurationChoice
from serve_app.instance.gpus import Build, Gpu
from serve_app.instance.processes import InstanceError

H100_BYTES = 81559 * 2**20
L4_BYTES = 23034 * 2**20


def choose(build: Build, *memories: int) -> str:
    gpus = tuple(
        Gpu(index=index, uuid=f"GPU-{index}", name="NVIDIA Test", memory_bytes=memory, free_bytes=memory)
        for index, memory in enumerate(memories)
    )
    return ConfigurationChoice(read_gpus=lambda: gpus, read_build=lambda: build).choose()


@pytest.mark.parametrize("memories", [(), (H100_BYTES,), (L4_BYTES,)])
def test_cpu_build_serves_on_the_cpu_whatever_gpus_there_are(memories: tuple[int, ...]) -> None:
    assert choose("cpu", *memories) == "local"


@pytest.mark.parametrize(("num_gpus", "expected"), [(1, "one-gpu"), (3, "one-gpu"), (4, "gpu"), (8, "gpu")])
def test_gpus_with_enough_memory_choose_by_their_number(num_gpus: int, expected: str) -> None:
    assert choose("gpu", *[H100_BYTES] * num_gpus) == expected


def test_gpu_build_without_a_gpu_says_what_to_look_at() -> None:
    with pytest.raises(InstanceError, match=r"no GPU.*CUDA_VISIBLE_DEVICES.*PROFILE=cpu"):
        choose("gpu")


def test_too_little_memory_says_what_to_choose() -> None:
    with pytest.raises(InstanceError) as caught:
        choose("gpu", L4_BYTES)
    message = str(caught.value)
    assert message.startswith("GPU 0 (NVIDIA Test) has 24 GB of memory, and the configuration one-gpu")
    assert "--config FILE.yaml" in message and "max_context_tokens" in message and "PROFILE=cpu" in message
    assert "CUDA_VISIBLE_DEVICES" not in message


def test_small_gpu_beside_a_large_one_can_be_hidden() -> None:
    with pytest.raises(InstanceError, match="CUDA_VISIBLE_DEVICES=1 tiger up"):
        choose("gpu", L4_BYTES, H100_BYTES)
