"""The epochs of a training: the steps after which all examples or pairs were gone through once more.

The controller reserves the numbers of the revisions of a job from this, and the worker makes them. So the
numbers of a job follow each other: those of its checkpoints, and then the one of its last revision.
"""

import math
from dataclasses import dataclass
from typing import Self

from registry.records import JobRequest, Method


@dataclass(frozen=True)
class Epochs:
    """`steps_per_epoch` is that of a whole epoch. The last epoch of a job may have fewer steps."""

    steps_per_epoch: int
    num_steps: int
    keeps_revisions: bool = False

    @classmethod
    def of(cls, request: JobRequest) -> Self:
        values = request.hyperparameters
        num_items = len(request.examples or request.pairs or request.groups)
        # A step of GRPO is over all groups.
        is_grpo = request.method is Method.GRPO
        batch_size = num_items if is_grpo else values.batch_size or num_items
        return cls(
            steps_per_epoch=max(1, math.ceil(num_items / max(1, batch_size))),
            num_steps=values.learning_steps,
            keeps_revisions=request.keeps_epochs and request.method is not Method.GRPO,
        )

    @property
    def num_checkpoints(self) -> int:
        """The number of revisions that the job makes before its last one."""
        return (self.num_steps - 1) // self.steps_per_epoch if self.keeps_revisions else 0

    def is_end(self, step: int) -> bool:
        """Return True if an epoch, or the job, ends with this step."""
        return step % self.steps_per_epoch == 0 or step == self.num_steps

    def checkpoint_after(self, step: int, last_revision: int) -> int | None:
        """The number of the revision that is kept after a step; None: there is none.

        Args:
            last_revision: the number of the last revision of the job.
        """
        if not self.keeps_revisions or step % self.steps_per_epoch or step >= self.num_steps:
            return None
        return last_revision - self.num_checkpoints + step // self.steps_per_epoch - 1
