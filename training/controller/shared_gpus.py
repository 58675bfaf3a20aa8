"""Shares one GPU between the replicas and the training worker of a base model: they take turns.

borrow_gpu -> lend: replicas finish their generations, and sleep -> the worker's turn
return_gpu, the end of a job or of a run -> take_back: replicas wake, and waiting requests go on
lent for a slice, and requests wait -> must_return: the job gives way, and borrows the GPU again after them
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol

from registry.errors import Superseded
from registry.retry import Retry
from registry.tasks import start_apart
from training.settings import TrainingSettings

logger = logging.getLogger("ray.serve")

LOOK_INTERVAL_S = 1.0


class Lender(Protocol):
    """The replicas of a base model."""

    async def finish_generations(self, base_model: str) -> None: ...

    async def lend_gpu(self, base_model: str) -> None: ...

    async def take_back_gpu(self, base_model: str) -> None: ...

    async def num_waiting_for_gpu(self, base_model: str) -> int: ...


class SharedGpus:
    """Lends the replicas' GPU to the training worker; does nothing for base models that do not share."""

    def __init__(
        self,
        lender: Lender,
        settings: Mapping[str, TrainingSettings],
        retry: Retry,
        clock: Callable[[], float] = time.monotonic,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        self._lender = lender
        self._settings = settings
        self._retry = retry
        self._clock = clock
        self._look_interval_s = look_interval_s
        # Assumed to be lent at first: an earlier controller may have died before it took the GPU back.
        self._is_lent: defaultdict[str, bool] = defaultdict(lambda: True)
        self._lent_at: dict[str, float] = {}
        self._is_wanted: dict[str, bool] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # vLLM measures the memory of the whole GPU while it falls asleep. No other engine may wake meanwhile.
        self._memory = asyncio.Lock()

    async def lend(self, base_model: str) -> None:
        """Lend the GPU; returns when the training worker may use it. Raises: Superseded, Unavailable."""
        if self._shares(base_model):
            async with self._turns[base_model]:
                self._is_lent[base_model] = True
                await self._lender.finish_generations(base_model)
                async with self._memory:
                    await self._lender.lend_gpu(base_model)
                self._lent_at[base_model] = self._clock()
                self._look_again_and_again(base_model)

    async def take_back(self, base_model: str) -> None:
        """Take the GPU back, which the training worker has left; returns when the replicas have it again."""
        if not self._shares(base_model) or not self._is_lent[base_model]:
            return
        async with self._turns[base_model]:
            if self._is_lent[base_model]:
                self._stop_looking(base_model)
                await self._retry.call_async(lambda: self._wake_up(base_model))
                self._is_lent[base_model] = self._is_wanted[base_model] = False

    async def _wake_up(self, base_model: str) -> None:
        async with self._memory:
            if self._shares(base_model):  # else the base model was removed, and its replicas have ended
                with suppress(Superseded):  # the later Trainer lends and wakes them from now on
                    await self._lender.take_back_gpu(base_model)

    async def take_all_back(self, base_models: Iterable[str]) -> None:
        for base_model in base_models:
            await self.take_back(base_model)

    def forget(self, base_model: str) -> None:
        """Forget a base model that does not share a GPU any more, or was removed."""
        self._stop_looking(base_model)
        self._is_lent.pop(base_model, None)
        self._is_wanted.pop(base_model, None)

    def must_return(self, base_model: str) -> bool:
        """Return True if the worker has had the GPU for a slice, and requests wait for it."""
        if not self._is_wanted.get(base_model):
            return False
        return self._clock() - self._lent_at[base_model] >= self._settings[base_model].slice_s

    def _shares(self, base_model: str) -> bool:
        return base_model in self._settings and self._settings[base_model].share_gpu

    def _stop_looking(self, base_model: str) -> None:
        if (looks := self._looks.pop(base_model, None)) is not None:
            looks.cancel()

    def _look_again_and_again(self, base_model: str) -> None:
        if base_model not in self._looks:
            self._looks[base_model] = start_apart(self._look(base_model))

    async def _look(self, base_model: str) -> None:
        while True:
            try:
                self._is_wanted[base_model] = await self._lender.num_waiting_for_gpu(base_model) > 0
            except Exception as error:  # a replica that died while its GPU is lent needs it to start again
                self._is_wanted[base_model] = True
                logger.warning("it is not known who waits for the GPU of %s: %r", base_model, error)
            await asyncio.sleep(self._look_interval_s)
