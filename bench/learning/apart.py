"""Makes runs in processes of their own, so that no run starts with memory that another used.

It is a module of its own because a new process cannot import the functions of a package's `__main__`. Torch
and TRL are imported only in the new process, and not while the instance needs the memory.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bench.learning.curves import Curve, Setup, ShownSetup
from bench.learning.tasks import Task
from registry.records import Method
from serve_app.instance.weights import prepare_weights
from serve_app.settings import load_settings

CONFIG = "local"


def apart(learn: Callable[..., Curve], *arguments: Any) -> Curve:
    """Call one of the functions below in a new process, on an instance's default base model."""
    settings = load_settings(CONFIG)
    model = settings.base_model(settings.default_model)
    weights = prepare_weights(model, settings.weights_directory.expanduser())
    os.environ["HF_HUB_OFFLINE"] = "1"
    # If threads spin while they wait, generation is sixty times slower as soon as another process works.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(learn, weights, *arguments).result()


def trl_from_rewards(weights: Path, task: Task, setup: Setup, seed: int) -> Curve:
    from bench.learning.stock import learn

    return learn(weights, task, setup, seed)


def trl_from_shown(weights: Path, method: Method, setup: ShownSetup, seed: int) -> Curve:
    from bench.learning.shown_stock import learn

    return learn(weights, method, setup, seed)


def tiger_from_shown(weights: Path, method: Method, setup: ShownSetup, seed: int) -> Curve:
    from bench.learning.shown_tiger import learn

    return learn(weights, method, setup, seed)
