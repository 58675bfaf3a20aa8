"""Fits packs to the memory: when a pack runs out of memory, smaller ones are made."""

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from registry.errors import TrainingFailed
from training.types import ShardedOutOfMemory
from training.worker.packs import Pack, Row, packs, share
from training.worker.resident_model import ResidentModel

logger = logging.getLogger(__name__)


class Memory:
    """The packs of this worker's share of an optimizer step.

    `packs` are those of the step. `packs_to_score` are scored once, before the first step of a job, if its
    objective needs that. When memory runs out, packs are made half as large. When a single unit is still too
    much, activations are checkpointed. The resident model remembers both for the next jobs.

    Args:
        keeps_items: see `worker.packs`.
        max_tokens: most tokens in a pack, for a job that continues in the middle of a step; None: the
            resident model's value.
    """

    def __init__(
        self,
        resident: ResidentModel,
        model: Any,
        rows: Sequence[Row],
        keeps_items: bool = False,
        max_tokens: int | None = None,
    ) -> None:
        self._resident = resident
        self._model = model
        self._rows = rows
        self._keeps_items = keeps_items
        self._numbers: Sequence[int] = ()
        self._numbers_to_score: Sequence[int] = ()
        self.max_tokens = max_tokens or resident.max_tokens_per_pack
        self.packs: list[Pack] = []
        self.packs_to_score: list[Pack] = []
        if resident.checkpoints:
            self._checkpoint()

    def begin_step(self, numbers: Sequence[int], numbers_to_score: Sequence[int]) -> None:
        """Make the packs of a step over the rows with `numbers`. All workers call this together."""
        if (self._numbers, self._numbers_to_score) != (numbers, numbers_to_score):
            self._numbers, self._numbers_to_score = numbers, numbers_to_score
            self._make()

    def fits(self, work: Callable[[], None]) -> bool:
        """Do `work`; return False if memory ran out. Then `packs` are smaller, and the step begins again.

        Raises:
            TrainingFailed: one unit alone is too much.
            ShardedOutOfMemory: the other workers of a sharded model wait inside `work`, so no step can begin.
        """
        has_fitted = self._fits(work)
        if not has_fitted:
            self._shrink()
        return has_fitted

    def _fits(self, work: Callable[[], None]) -> bool:
        """As `fits`, without new packs. After it returns, no traceback of an error holds tensors any more."""
        try:
            work()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if self._resident.is_sharded:
                raise ShardedOutOfMemory from error
            return False
        return True

    def _shrink(self) -> None:
        self._model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        largest = max((*self.packs[:1], *self.packs_to_score[:1]), key=lambda pack: pack.num_tokens)
        if largest.num_units > 1:
            self.max_tokens = largest.num_tokens // 2
            self._resident.max_tokens_per_pack = min(self.max_tokens, self._resident.max_tokens_per_pack)
            logger.warning("out of memory: packs of %d tokens from now on", self.max_tokens)
        elif not self._resident.checkpoints:
            self._resident.checkpoints = True
            self._checkpoint()
            logger.warning("out of memory: activations are checkpointed from now on")
        else:
            unit = "pair of responses" if self._keeps_items else "response"
            raise TrainingFailed(
                f"one {unit} with its prompt, {largest.num_tokens} tokens, does not fit in memory"
            )
        self._make()

    def _checkpoint(self) -> None:
        self._model.gradient_checkpointing_enable({"use_reentrant": False})

    def _make(self) -> None:
        self.packs = self._packs(self._numbers)
        is_same = self._numbers_to_score == self._numbers
        self.packs_to_score = self.packs if is_same else self._packs(self._numbers_to_score)

    def _packs(self, numbers: Sequence[int]) -> list[Pack]:
        """This worker's packs of its share of these rows.

        Workers of a sharded model gather its layers together, so each gets the same number of packs.
        """
        workers, keeps_items = self._resident.workers, self._keeps_items
        # Shares stay the same when packs get smaller.
        size = self._resident.settings.max_tokens_per_pack
        mine = self._packed(share(self._rows, numbers, size, workers.rank, workers.size, keeps_items))
        if not self._resident.is_sharded:
            return mine
        number = max(workers.each(lambda: len(mine)))
        if len(mine) == number:
            return mine
        first_item = self._rows[numbers[0]].item
        filler = mine or self._packed([n for n in numbers if self._rows[n].item == first_item])
        return mine + [replace(filler[-1], counts=False)] * (number - len(mine))

    def _packed(self, numbers: Sequence[int]) -> list[Pack]:
        return packs(self._rows, numbers, self.max_tokens, self._resident.device, self._keeps_items)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Return True for an error of missing memory. On the CPU such an error has no type of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
