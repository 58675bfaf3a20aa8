from pathlib import Path

import pytest

from serve_app.instance.gpus import Gpu, parse_gpus, read_gpus, visible_gpus

PRINTED = """\
0, GPU-aa11, NVIDIA H100 80GB HBM3, 81559, 81008
1, GPU-bb22, NVIDIA L4, 23034, 12
"""
H100 = Gpu(
    index=0,
    uuid="GPU-aa11",
    name="NVIDIA H100 80GB HBM3",
    memory_bytes=81559 * 2**20,
    free_bytes=81008 * 2**20,
)
L4 = Gpu(index=1, uuid="GPU-bb22", name="NVIDIA L4", memory_bytes=23034 * 2**20, free_bytes=12 * 2**20)


def test_each_line_is_a_gpu() -> None:
    assert parse_gpus(PRINTED) == (H100, L4)


@pytest.mark.parametrize(
    "printed", ["", "No devices were found\n", "0, GPU-aa11, NVIDIA GB10, [N/A], [N/A]\n"]
)
def test_text_without_a_gpu_or_its_memory_is_none(printed: str) -> None:
    assert parse_gpus(printed) == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0,1", (H100, L4)),
        ("1,0", (L4, H100)),
        ("GPU-bb", (L4,)),
        ("", ()),
        ("-1", ()),
        ("0,7,1", (H100,)),
    ],
)
def test_cuda_visible_devices_selects_as_cuda_does(value: str, expected: tuple[Gpu, ...]) -> None:
    assert visible_gpus((H100, L4), {"CUDA_VISIBLE_DEVICES": value}) == expected


def test_without_cuda_visible_devices_all_are_visible() -> None:
    assert visible_gpus((H100, L4), {}) == (H100, L4)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory in which programs are found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("script", "expected"),
    [(f"echo '{PRINTED}'", (H100, L4)), ("echo 'no driver'; exit 9", ())],
)
def test_gpus_are_those_that_nvidia_smi_prints(
    programs: Path, script: str, expected: tuple[Gpu, ...]
) -> None:
    (programs / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "nvidia-smi").chmod(0o755)
    assert read_gpus() == expected


def test_machine_without_nvidia_smi_has_no_gpu(programs: Path) -> None:
    assert read_gpus() == ()
