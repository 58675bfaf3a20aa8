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
    """The packs of this worker's share of a job.

    When memory runs out, packs are made half as large. When a single row is still too much, activations are
    checkpointed. The resident model remembers both for the next jobs.

    Args:
        max_tokens: most tokens in a pack, for a job that continues in the middle of a step; None: the
            resident model's value.
    """

    def __init__(
        self, resident: ResidentModel, model: Any, rows: Sequence[Row], max_tokens: int | None = None
    ) -> None:
        self._resident = resident
        self._model = model
        self._rows = rows
        workers = resident.workers
        self._numbers = share(rows, resident.settings.max_tokens_per_pack, workers.rank, workers.size)
        self.max_tokens = max_tokens or resident.max_tokens_per_pack
        if resident.checkpoints:
            self._checkpoint()
        self.packs = self._packs()

    def fits(self, work: Callable[[], None]) -> bool:
        """Do `work`; return False if memory ran out. Then `packs` are smaller, and the step begins again.

        Raises:
            TrainingFailed: one row alone is too much.
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
        largest = self.packs[0]
        if largest.num_rows > 1:
            self.max_tokens = largest.num_tokens // 2
            self._resident.max_tokens_per_pack = min(self.max_tokens, self._resident.max_tokens_per_pack)
            logger.warning("out of memory: packs of %d tokens from now on", self.max_tokens)
        elif not self._resident.checkpoints:
            self._resident.checkpoints = True
            self._checkpoint()
            logger.warning("out of memory: activations are checkpointed from now on")
        else:
            raise TrainingFailed(
                f"one response with its prompt, {largest.num_tokens} tokens, does not fit in memory"
            )
        self.packs = self._packs()

    def _checkpoint(self) -> None:
        self._model.gradient_checkpointing_enable({"use_reentrant": False})

    def _packs(self) -> list[Pack]:
        """This worker's packs.

        Workers of a sharded model gather its layers together, so each gets the same number of packs.
        """
        mine = packs(self._rows, self._numbers, self.max_tokens, self._resident.device)
        if not self._resident.is_sharded:
            return mine
        number = max(self._resident.workers.each(lambda: len(mine)))
        filler = mine or packs(self._rows, [0], self.max_tokens, self._resident.device)
        return mine + [replace(filler[-1], counts=False)] * (number - len(mine))


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Return True for an error of missing memory. On the CPU such an error has no type of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
