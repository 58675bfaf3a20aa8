"""The rows of each optimizer step of a job.

A step of GRPO is over all responses. A step of the other methods is over `batch_size` examples or pairs, in
an order that is drawn anew for each epoch. The last batch of an epoch may be smaller. The order depends only
on the seed, so it is the same for all workers and for all attempts.
"""

import math
import random
from collections.abc import Sequence

from training.worker.objective import num_trained
from training.worker.packs import Row


class Batches:
    """The numbers of the rows of each step.

    Args:
        rows: the rows of the job. Those of one item are in the same batch.
        batch_size: the number of items of a step; None: all.
        seed: the seed of the order of the items.
    """

    def __init__(self, rows: Sequence[Row], batch_size: int | None, seed: int) -> None:
        by_item: dict[int, list[int]] = {}
        for number, row in enumerate(rows):
            by_item.setdefault(row.item, []).append(number)
        self._items = list(by_item.values())
        self._batch_size = min(batch_size or len(self._items), len(self._items))
        self.per_epoch = math.ceil(len(self._items) / self._batch_size)
        self._all = tuple(range(len(rows)))
        self._seed = seed
        self._epoch = -1
        self._order: list[int] = []

    def of_step(self, step: int) -> tuple[int, ...]:
        """The numbers of the rows of a step, in their order in the job. The first step is 1."""
        if self.per_epoch == 1:
            return self._all
        epoch, number = divmod(step - 1, self.per_epoch)
        first = number * self._batch_size
        items = self._order_of(epoch)[first : first + self._batch_size]
        return tuple(sorted(row for item in items for row in self._items[item]))

    def of_steps(self, num_steps: int) -> tuple[int, ...]:
        """The numbers of all rows that the steps up to `num_steps` are over, each once."""
        steps = range(1, min(num_steps, self.per_epoch) + 1)
        return tuple(sorted(row for step in steps for row in self.of_step(step)))

    def epochs_after(self, step: int) -> float:
        """The number of times that the items were gone through after a step."""
        epochs, number = divmod(step, self.per_epoch)
        return epochs + number * self._batch_size / len(self._items)

    def _order_of(self, epoch: int) -> list[int]:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = list(range(len(self._items)))
            random.Random(f"{self._seed} {epoch}").shuffle(self._order)
        return self._order


def tokens_until(last_step: int, rows: Sequence[Row], batches: Batches) -> int:
    """The number of trained tokens of the steps up to this one together."""
    epochs, num_rest = divmod(last_step, batches.per_epoch)
    rest = range(last_step - num_rest + 1, last_step + 1)
    in_rest = sum(num_trained(rows, batches.of_step(step)) for step in rest)
    return epochs * num_trained(rows, range(len(rows))) + in_rest
