"""Ray Train's trainer for a run that leaves nothing behind in Ray.

    TorchTrainer.fit (process of the Trainer)  ->  TrainController, an actor: RunMark.after_controller_start
        -> the placement groups of the run get names (`run_groups`)
        -> the Trainer gets a handle of the controller (`run_controller`)

Ray Train's own cleaner is left out. It knows a group only when the workers of the group run, so it misses a
group that waits for resources, and its process stays when the controller has died.
"""

import secrets
from functools import partial
from pathlib import Path
from typing import Any

from ray.train.torch import TorchTrainer
from ray.util import placement_group

from training.worker.ray_train_private import ControllerCallback, PlacementGroupCleanerCallback, worker_group
from training.worker.run_controller import publish_this_controller


class RunMark(ControllerCallback):
    """Makes what a run reserves and its controller known. The names of its groups begin with `groups`."""

    def __init__(self, groups: str, directory: str) -> None:
        self._groups = groups
        self._directory = directory

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray Train calls this in the process of the controller, which serves this run only."""
        publish_this_controller(Path(self._directory))
        worker_group.placement_group = partial(_named_group, self._groups)


class RunTrainer(TorchTrainer):
    """A TorchTrainer without the cleaner of placement groups."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [each for each in callbacks if not isinstance(each, PlacementGroupCleanerCallback)]


def _named_group(beginning: str, *args: Any, **more: Any) -> Any:
    return placement_group(*args, **more, name=f"{beginning}{secrets.token_hex(8)}")
