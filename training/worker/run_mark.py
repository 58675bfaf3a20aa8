"""Makes known what a run of Ray Train has in Ray, so that nothing of it stays when its Trainer has ended.

    TorchTrainer.fit (process of the Trainer)  ->  TrainController, an actor: RunMark.after_controller_start
        -> the placement groups of the run get names (`run_groups`)
        -> the Trainer gets a handle of the controller (`run_controller`)

Ray Train's own cleaner removes the group of a dead controller only if the workers of that group had started.
When the Trainer has died, Ray ends the controller a moment later. In that moment the next Trainer may remove
the controller's group. The controller therefore makes no other one.
"""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ray.util import placement_group

from training.worker.ray_train_private import ControllerCallback, worker_group
from training.worker.run_controller import publish_this_controller


@dataclass(frozen=True)
class LocalProcess:
    """A process of this node."""

    pid: int = field(default_factory=os.getpid)
    created_s: float = field(default_factory=lambda: psutil.Process().create_time())

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.created_s and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass
class RunMark(ControllerCallback):
    """The mark of one run, which the Trainer makes. The names of its placement groups begin with `groups`."""

    groups: str
    directory: str
    trainer: LocalProcess = field(default_factory=LocalProcess)

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray Train calls this in the process of the controller, which serves this run only."""
        publish_this_controller(Path(self.directory))
        worker_group.placement_group = self.named_group

    def named_group(self, *args: Any, **more: Any) -> Any:
        """Make a placement group. Raises: RuntimeError: the Trainer has died."""
        if not self.trainer.is_alive():
            raise RuntimeError("the Trainer of this run has died")
        return placement_group(*args, **more, name=f"{self.groups}{secrets.token_hex(8)}")
