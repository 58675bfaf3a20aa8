"""The commands that `make` would run, by profile. Nothing is run: `make -n` prints them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONE_GPU = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)"
NO_GPU = "No devices found"
ELSEWHERE = ("tests/unit", "tests/e2e")
CPU_TESTS = " ".join([".venv/bin/pytest", *(f"--ignore={folder}" for folder in ELSEWHERE)])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed yet."""
    (tmp_path / "requirements").mkdir()
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *(ROOT / "requirements").glob("*.txt")):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def make(checkout: Path, *arguments: str, nvidia_smi: str = "") -> "subprocess.CompletedProcess[str]":
    """Run `make -n` on a machine whose `nvidia-smi` prints this text; empty: it has no such program."""
    programs = checkout / "programs"
    programs.mkdir(exist_ok=True)
    shown = f"echo '{nvidia_smi}'" if nvidia_smi else "exit 127"
    (programs / "nvidia-smi").write_text(f"#!/bin/sh\n{shown}\n")
    (programs / "nvidia-smi").chmod(0o755)
    environment = {"PATH": f"{programs}:{os.defpath}"}
    command = ["make", "-n", *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=60)


def commands(checkout: Path, *arguments: str, nvidia_smi: str = "") -> list[str]:
    """The commands that make would run."""
    done = make(checkout, *arguments, nvidia_smi=nvidia_smi)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def installs(lines: list[str], profile: str) -> bool:
    return any(f"-r requirements/{profile}.txt" in line for line in lines)


def test_up_with_the_gpu_profile_installs_its_lock_and_starts(checkout: Path) -> None:
    lines = commands(checkout, "up", "PROFILE=gpu")
    assert installs(lines, "gpu") and not installs(lines, "cpu")
    assert lines[-1] == ".venv-gpu/bin/tiger up"


@pytest.mark.parametrize(("nvidia_smi", "profile"), [(ONE_GPU, "gpu"), (NO_GPU, "cpu"), ("", "cpu")])
def test_up_takes_the_profile_of_the_machine(checkout: Path, nvidia_smi: str, profile: str) -> None:
    lines = commands(checkout, "up", nvidia_smi=nvidia_smi)
    assert [installs(lines, name) for name in ("cpu", "gpu")] == [profile == "cpu", profile == "gpu"]


def test_cpu_profile_can_be_chosen_where_there_is_a_gpu(checkout: Path) -> None:
    lines = commands(checkout, "up", "PROFILE=cpu", nvidia_smi=ONE_GPU)
    assert installs(lines, "cpu") and not installs(lines, "gpu")
    assert lines[-1] == ".venv/bin/tiger up"


def test_unknown_profile_is_refused(checkout: Path) -> None:
    done = make(checkout, "up", "PROFILE=tpu")
    assert done.returncode != 0 and "PROFILE is cpu or gpu" in done.stderr


def test_tests_on_a_gpu_machine_are_those_of_the_cpu_and_then_those_of_the_gpu(checkout: Path) -> None:
    lines = commands(checkout, "test", nvidia_smi=ONE_GPU)
    assert installs(lines, "cpu") and installs(lines, "gpu")
    assert lines[-2:] == [CPU_TESTS, ".venv-gpu/bin/pytest tests/gpu"]


def test_tests_on_another_machine_install_no_packages_for_gpus(checkout: Path) -> None:
    lines = commands(checkout, "test")
    assert not installs(lines, "gpu")
    assert lines[-1] == CPU_TESTS


def test_end_to_end_tests_run_without_a_network_unless_one_is_wanted(checkout: Path) -> None:
    end_to_end = ".venv/bin/pytest tests/e2e"
    assert f".venv/bin/python -m tests.support.loopback {end_to_end}" in commands(checkout, "test")
    assert end_to_end in [line.strip() for line in commands(checkout, "test", "LOOPBACK=")]


def test_every_folder_of_tests_is_run_once(checkout: Path) -> None:
    """The last command runs all folders that no other command names."""
    *lines, last = commands(checkout, "test")
    for folder in ELSEWHERE:
        assert sum(folder in line.split() for line in lines if "/pytest " in line) == 1, folder
        assert f"--ignore={folder}" in last.split()
    assert last.count("--ignore=") == len(ELSEWHERE)


def test_check_runs_every_check(checkout: Path) -> None:
    lines = "\n".join(commands(checkout, "check"))
    for command in ("ruff check .", "ruff format --check .", "mypy", "lint-imports --no-cache"):
        assert f".venv/bin/{command}\n" in f"{lines}\n", command
    assert lines.count(".venv/bin/pytest ") == 1


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_installation_from_a_bundle_checks_it_first_and_asks_no_index(checkout: Path, profile: str) -> None:
    first, *lines = commands(checkout, "up", f"PROFILE={profile}", "BUNDLE=carried")
    assert first.endswith(f" -m requirements.bundle check carried --profile {profile}")
    assert installs(lines, profile)
    pips = [line for line in lines if "pip install" in line]
    source = f"--no-index --find-links {checkout}/carried/wheels"
    assert len(pips) > 2 and [line for line in pips if source not in line] == []
    assert [line for line in lines if "http" in line] == []


def test_installation_without_a_bundle_has_an_index(checkout: Path) -> None:
    lines = commands(checkout, "install", "PROFILE=cpu")
    assert [line for line in lines if "--no-index" in line or "requirements.bundle" in line] == []
    assert any("download.pytorch.org" in line for line in lines)


def test_bundle_of_a_profile_has_what_is_installed_before_its_lock(checkout: Path) -> None:
    cpu, gpu = (
        commands(checkout, "bundle", f"PROFILE={profile}", "BUNDLE=carried") for profile in ("cpu", "gpu")
    )
    for lines, profile in ((cpu, "cpu"), (gpu, "gpu")):
        text = " ".join(lines)
        assert f"-m requirements.bundle make carried --profile {profile} --first uv==" in text
        assert ("--first torch==" in text) == (profile == "cpu")
        assert not installs(lines, profile)
