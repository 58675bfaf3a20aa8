"""TRL's side: each run in a process of its own, so that none starts with what another left in memory.

A module of its own, since a new process cannot import what a package's `__main__` defines.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.learning.curves import Curve, Setup
from bench.learning.tasks import Task
from serve_app.instance.weights import prepare_weights
from serve_app.settings import load_settings

CONFIG = "local"


def teach_trl(task: Task, setup: Setup, num_runs: int) -> list[Curve]:
    """With the base model that our side teaches: the default one of the configuration."""
    settings = load_settings(CONFIG)
    model = next(model for model in settings.models if model.id == settings.default_model)
    weights = prepare_weights(model, settings.weights_directory.expanduser())
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Threads that spin while they wait make generation sixty times slower beside any other process.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    curves = []
    for seed in range(num_runs):
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            curves.append(process.submit(_learn, weights, task, setup, seed).result())
    return curves


def _learn(weights: Path, task: Task, setup: Setup, seed: int) -> Curve:
    # Torch and TRL: in that process only, and not while the instance needs the memory.
    from bench.learning.stock import learn

    return learn(weights, task, setup, seed)
