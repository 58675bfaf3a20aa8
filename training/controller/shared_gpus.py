"""Shares one GPU between the replicas and the training worker of a base model: they take turns.

next_assignment -> lend: replicas finish their generations, and sleep -> the job
complete, fail, paused, stopped, a dead run -> take_back: replicas wake, and waiting requests go on
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
    """Lends the replicas' GPU to the training worker; does nothing for base models that do not share."""

    def __init__(self, lender: Lender, settings: Mapping[str, TrainingSettings], retry: Retry) -> None:
        self._lender = lender
        self._retry = retry
        # Assumed to be lent at first: an earlier controller may have died before it took the GPU back.
        self._is_lent = {base_model: True for base_model, training in settings.items() if training.share_gpu}
        self._turn = asyncio.Lock()

    async def lend(self, base_model: str) -> None:
        """Lend the GPU; returns when the training worker may use it. Raises: Unavailable."""
        if base_model in self._is_lent:
            async with self._turn:
                self._is_lent[base_model] = True
                await self._lender.lend_gpu(base_model)

    async def take_back(self, base_model: str) -> None:
        """Take the GPU back, which the training worker has left; returns when the replicas have it again."""
        if not self._is_lent.get(base_model):
            return
        async with self._turn:
            if self._is_lent[base_model]:
                await self._retry.call_async(lambda: self._lender.take_back_gpu(base_model))
                self._is_lent[base_model] = False

    async def take_all_back(self) -> None:
        for base_model in self._is_lent:
            await self.take_back(base_model)
