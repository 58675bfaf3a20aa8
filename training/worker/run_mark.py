"""Makes known what a run of Ray Train has in Ray, so that nothing of it stays when its Trainer has ended.

    TorchTrainer.fit (process of the Trainer)  ->  TrainController, an actor: RunMark.after_controller_start
        -> the placement groups of the run get names (`run_groups`)
        -> the Trainer gets a handle of the controller (`run_controller`)

Ray Train's own cleaner removes the group of a dead controller only if the workers of that group had started.
"""

import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ray.util import placement_group

from training.worker.ray_train_private import ControllerCallback, worker_group
from training.worker.run_controller import publish_this_controller


@dataclass
class RunMark(ControllerCallback):
    """The mark of one run. The names of its placement groups begin with `groups`."""

    groups: str
    directory: str

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray Train calls this in the process of the controller, which serves this run only."""
        publish_this_controller(Path(self.directory))
        worker_group.placement_group = partial(_named_group, self.groups)


def _named_group(beginning: str, *args: Any, **more: Any) -> Any:
    return placement_group(*args, **more, name=f"{beginning}{secrets.token_hex(8)}")
