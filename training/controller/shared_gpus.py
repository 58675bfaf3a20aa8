"""One GPU for the replicas and the trainer of a base model: they take turns.

next_assignment -> lend: replicas finish what they generate, and sleep -> the job
complete, fail, stopped, a dead run -> take_back: replicas wake, and what waited goes on
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from registry.retry import Retry
from training.settings import TrainingSettings


class Lender(Protocol):
    """The replicas of a base model."""

    async def lend_gpu(self, base_model: str) -> None: ...

    async def take_back_gpu(self, base_model: str) -> None: ...


class SharedGpus:
    """Does nothing for base models that are not set to share."""

    def __init__(self, lender: Lender, settings: Mapping[str, TrainingSettings], retry: Retry) -> None:
        self._lender = lender
        self._retry = retry
        # At first nobody knows: an earlier controller may have died while it was lent.
        self._is_lent = {base_model: True for base_model, training in settings.items() if training.share_gpu}
        self._turn = asyncio.Lock()

    async def lend(self, base_model: str) -> None:
        """Returns when the trainer may have the GPU. Raises: Unavailable."""
        if base_model in self._is_lent:
            async with self._turn:
                self._is_lent[base_model] = True
                await self._lender.lend_gpu(base_model)

    async def take_back(self, base_model: str) -> None:
        """Returns when the replicas have it again; the trainer has let go of it."""
        if not self._is_lent.get(base_model):
            return
        async with self._turn:
            if self._is_lent[base_model]:
                await self._retry.call_async(lambda: self._lender.take_back_gpu(base_model))
                self._is_lent[base_model] = False

    async def take_all_back(self) -> None:
        for base_model in self._is_lent:
            await self.take_back(base_model)
