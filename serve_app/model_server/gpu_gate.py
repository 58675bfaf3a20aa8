"""Keeps requests from the engine while its GPU is lent to the training worker.

    close      ->  nobody is let in  ->  all inside are in the engine  ->  it finishes them, and pauses
    lend       ->  close  ->  the engine sleeps
    take_back  ->  the engine wakes and goes on  ->  all who waited are let in, at once

Those who waited reach the engine before the GPU can be lent again. A generation therefore waits for one turn
of a training at most. A request leaves the gate when the engine computes it, and not when it ends: a client
that reads slowly must not keep the training waiting.

Each call of a Trainer has the epoch of its leadership. A Trainer that a later one has superseded could wake
the engine while a worker of the later one uses the GPU. So the gate refuses an epoch that is lower than the
last.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from registry.errors import Superseded
from registry.leadership import MESSAGE, NEVER_LED

Act = Callable[[], Awaitable[Any]]


class Pass:
    """The place of one request inside the gate."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._is_inside = True

    def leave(self) -> None:
        """Leave the gate. A second call does nothing."""
        if self._is_inside:
            self._is_inside = False
            self._leave()


class GpuGate:
    """The gate of one replica. `pause`, `sleep` and `wake_up` are calls of the engine."""

    def __init__(self, pause: Act, sleep: Act, wake_up: Act) -> None:
        self._pause = pause
        self._sleep = sleep
        self._wake_up = wake_up
        self._is_open = True
        self._epoch = NEVER_LED
        self._num_inside = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._turn = asyncio.Lock()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def inside(self) -> AsyncIterator[Pass]:
        """Wait until the engine has its GPU. The engine keeps it during the block, or until `leave`."""
        if self._is_open:
            self._enter()
        else:
            await self._let_in()
        place = Pass(self._leave)
        try:
            yield place
        finally:
            place.leave()

    async def close(self, epoch: int | None = None) -> None:
        """Let nobody in from now on. Returns when the engine has finished all that were let in before.

        Raises (as the other two): Superseded, if a later Trainer than that of `epoch` has used the gate.
        None: the Trainer has no rival.
        """
        async with self._turn:
            self._require_latest(epoch)
            self._is_open = False
            await self._is_empty.wait()
            await self._pause()

    async def lend(self, epoch: int | None = None) -> None:
        """Close the gate, and let the engine sleep."""
        await self.close(epoch)
        async with self._turn:
            self._require_latest(epoch)
            if not self._is_open:  # else the GPU was taken back before it was lent
                await self._sleep()

    async def take_back(self, epoch: int | None = None) -> None:
        """Wake the engine up, and let in all who waited. Nothing happens if the GPU was not lent."""
        async with self._turn:
            self._require_latest(epoch)
            if self._is_open:
                return
            await self._wake_up()
            self._is_open = True
            while self._waiting:
                place, _ = self._waiting.popitem(last=False)
                self._enter()
                place.set_result(None)

    def _require_latest(self, epoch: int | None) -> None:
        if epoch is None:
            return
        if epoch < self._epoch:
            raise Superseded(MESSAGE)
        self._epoch = epoch

    async def _let_in(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting[place] = None
        try:
            await asyncio.shield(place)
        except asyncio.CancelledError:
            if place.done():  # let in at this moment
                self._leave()
            self._waiting.pop(place, None)
            raise

    def _enter(self) -> None:
        self._num_inside += 1
        self._is_empty.clear()

    def _leave(self) -> None:
        self._num_inside -= 1
        if self._num_inside == 0:
            self._is_empty.set()


class AwakeEngine:
    """The calls of vLLM's AsyncLLM that load and remove adapters, for which it must not sleep."""

    def __init__(self, engine: Callable[[], Any], gate: GpuGate) -> None:
        self._engine = engine
        self._gate = gate

    async def add_lora(self, lora_request: Any) -> bool:
        """Load an adapter. The caller is inside the gate."""
        return bool(await self._engine().add_lora(lora_request))

    async def remove_lora(self, lora_id: int) -> bool:
        """Remove an adapter when the engine is awake. The caller may be a task that nobody waits for."""
        async with self._gate.inside():
            return bool(await self._engine().remove_lora(lora_id))
