from pathlib import Path

import pytest

from serve_app.instance.gpu_machine import GpuMachine, has_compilers, has_nvcc, parse_drivers, problems_of

READY = GpuMachine(
    drivers=(("580.95.05", "Default"),),
    has_nvcc=True,
    has_compilers=True,
    has_python_headers=True,
    memory_bytes=256 * 10**9,
)


def program(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text("#!/bin/sh\n")
    (directory / name).chmod(0o755)
    return directory


def test_machine_with_everything_has_no_problem() -> None:
    assert problems_of(READY) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drivers": (("570.133.20", "Default"),)}, "driver 570.133.20"),
        ({"drivers": (("580.95.05", "Exclusive_Process"),)}, "compute mode"),
        ({"has_nvcc": False}, "nvcc"),
        ({"has_compilers": False}, "gcc and g++"),
        ({"has_python_headers": False}, "Python.h"),
    ],
)
def test_each_missing_thing_is_one_line(change: dict[str, object], said: str) -> None:
    (line,) = problems_of(READY.model_copy(update=change))
    assert said in line and "\n" not in line


def test_equal_gpus_are_said_once() -> None:
    assert len(problems_of(READY.model_copy(update={"drivers": (("535.1", "Default"),) * 8}))) == 1


def test_each_line_of_nvidia_smi_is_a_gpu() -> None:
    printed = "580.95.05, Default\n580.95.05, Exclusive_Process\n"
    assert parse_drivers(printed) == (("580.95.05", "Default"), ("580.95.05", "Exclusive_Process"))
    assert parse_drivers("No devices were found\n") == ()


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_nvcc_is_looked_for_only_in_the_directory_that_is_named(tmp_path: Path, variable: str) -> None:
    default = program(tmp_path / "cuda" / "bin", "nvcc").parent
    elsewhere = {variable: str(tmp_path / "none"), "PATH": str(default / "bin")}
    assert has_nvcc({variable: str(default)}, tmp_path / "none")
    assert not has_nvcc(elsewhere, default)


def test_nvcc_is_found_on_the_path_or_at_its_usual_place(tmp_path: Path) -> None:
    default = program(tmp_path / "cuda" / "bin", "nvcc").parent
    assert has_nvcc({"PATH": str(default / "bin")}, tmp_path / "none")
    assert has_nvcc({"PATH": str(tmp_path)}, default)
    assert not has_nvcc({"PATH": str(tmp_path)}, tmp_path / "none")


def test_compilers_are_those_on_the_path_or_those_that_are_named(tmp_path: Path) -> None:
    path = {"PATH": str(program(tmp_path, "gcc"))}
    assert not has_compilers(path)
    program(tmp_path, "c++")
    assert has_compilers(path)
    assert not has_compilers(path | {"CC": "mine"})
    assert has_compilers(path | {"CC": str(program(tmp_path, "mine") / "mine")})
