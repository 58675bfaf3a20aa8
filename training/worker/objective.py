"""The interface of a method's objective: the loss of a pack, and the measures of a step.

    PackTrainer  ->  Objective: `worker.grpo`, `worker.supervised`, `worker.dpo`

An objective knows neither the optimizer nor how rows are spread over packs and workers. The loss of a step
is the sum of the losses of its packs, so an objective divides by the numbers of the whole step.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from training.worker.packs import Pack, Row
from training.worker.scores import Scores


class Objective(ABC):
    """The objective of a job.

    `sums` (M,) are added up over the packs of a step, and over all workers at its end. The first is the loss.
    `scores` are the log-probabilities that the loss compares with.
    """

    keeps_items = False
    """True: the loss needs all rows of an item in one pack (see `worker.packs`)."""

    def __init__(self, rows: Sequence[Row], sums: Tensor, scores: Scores) -> None:
        self.sums = sums
        self.scores = scores
        self._rows = rows

    @abstractmethod
    def begin_step(self, numbers: Sequence[int]) -> None:
        """Prepare for a step over the rows with these numbers. It may be called again for the same step."""

    def score(self, model: Any, pack: Pack) -> None:
        """Compute the scores of a pack in a pass of its own. Only called if `scores.take_passes`."""
        raise AssertionError("this objective has no scores that need passes")

    @abstractmethod
    def loss(self, model: Any, pack: Pack) -> Tensor:
        """The part of a pack in the loss of the step, a scalar. Adds the measures of the pack to `sums`."""

    @abstractmethod
    def measures(self) -> dict[str, float]:
        """The measures of a step by the names that `StepProgress` has, from the sums of all workers."""


def num_trained(rows: Sequence[Row], numbers: Sequence[int]) -> int:
    """The number of trained tokens of these rows."""
    return sum(rows[number].exchange.num_trained for number in numbers)
