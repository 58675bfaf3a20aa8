"""Runs TRL's side, each run in a process of its own, so that no run starts with memory that another used.

It is a module of its own because a new process cannot import the functions of a package's `__main__`.
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
    """TRL's curves for a task, on the base model that our side uses: the default one of the configuration."""
    settings = load_settings(CONFIG)
    model = next(model for model in settings.models if model.id == settings.default_model)
    weights = prepare_weights(model, settings.weights_directory.expanduser())
    os.environ["HF_HUB_OFFLINE"] = "1"
    # If threads spin while they wait, generation is sixty times slower as soon as another process works.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    curves = []
    for seed in range(num_runs):
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            curves.append(process.submit(_learn, weights, task, setup, seed).result())
    return curves


def _learn(weights: Path, task: Task, setup: Setup, seed: int) -> Curve:
    # This imports torch and TRL, so only in the new process, and not while the instance needs the memory.
    from bench.learning.stock import learn

    return learn(weights, task, setup, seed)
