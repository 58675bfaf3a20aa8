"""Measures the memory of all processes that are neither an engine nor a training worker."""

import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from bench.control.ground import BARE_APPLICATION
from bench.memory import pss_by_kind
from serve_app.deployment_options import base_model_application
from serve_app.instance.instance import Instance

ENGINES = ("VLLM::", f"ray::ServeReplica:{base_model_application('')}")
TRAINERS = ("ray::RayTrainWorker", "ray::TrainController")
OURS = (f"ray::ServeReplica:{BARE_APPLICATION}:",)
"""The kinds of processes that belong to the benchmark. No total counts them."""


def memory(instance: Instance) -> dict[str, Any]:
    """PSS in MiB. `rest` is the sum of all processes that are neither an engine nor a training worker."""
    found = pss_by_kind(instance)

    def sum_of(kinds: Iterable[str]) -> float:
        return round(sum(found[kind] for kind in kinds) / 2**20, 1)

    engines = [kind for kind in found if kind.startswith(ENGINES)]
    trainers = [kind for kind in found if kind.startswith(TRAINERS)]
    rest = [kind for kind in found if not kind.startswith(ENGINES + TRAINERS + OURS)]
    return {
        "engines_mib": sum_of(engines),
        "trainers_mib": sum_of(trainers),
        "rest_mib": sum_of(rest),
        "rest_by_kind_mib": {kind: sum_of([kind]) for kind in rest},
    }


def of_ray_serve() -> float:
    """The MiB that a Python process which imports Ray Serve has for itself, beside a running instance."""
    asked = "import psutil, ray.serve; print(psutil.Process().memory_full_info().uss)"
    answer = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    return round(int(answer.stdout) / 2**20, 1)
