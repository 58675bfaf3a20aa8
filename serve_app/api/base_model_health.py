"""An ingress replica remembers which base models answer: requests do not wait for one that is dead.

Its replicas are asked for `check_health` all the time. One that answers is enough. When every one is dead, or
says that it is not well, the model is unavailable at once; when none says anything, it may be busy, and is
unavailable only after a while.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

from ray.serve.handle import DeploymentHandle

from registry.errors import Unavailable
from registry.tasks import start_apart
from serve_app.api.in_progress import InProgress
from serve_app.shared_tasks import SharedTasks

PAUSE_S = 1.0
RETRY_S = 0.2
ASK_S = 2.0
SILENCE_S = 5.0
WAITING_S = 5.0

Ask = Callable[[], Awaitable[bool | None]]


def asking(server: DeploymentHandle[Any], timeout_s: float = ASK_S) -> Ask:
    """Asks the replicas of a model server: True: one is well; False: none is; None: that is not known."""

    async def ask() -> bool | None:
        try:
            answers = await server.broadcast("check_health").results_async(
                timeout_s=timeout_s, return_exceptions=True
            )
        except TimeoutError:
            return await _ask_one(server, timeout_s)
        except Exception:
            return False  # there is no replica
        return any(not isinstance(answer, BaseException) for answer in answers)

    return ask


async def _ask_one(server: DeploymentHandle[Any], timeout_s: float) -> bool | None:
    """One of several replicas that says nothing must not speak for the others: Serve picks one that does."""
    try:
        await asyncio.wait_for(server.check_health.remote(), timeout_s)
    except Exception:
        return None
    return True


class BaseModelHealth:
    """Of one base model. `clock` is in seconds from anywhere."""

    def __init__(self, base_model: str, ask: Ask, clock: Callable[[], float] = time.monotonic) -> None:
        self._base_model = base_model
        self._ask = ask
        self._clock = clock
        self._asks: SharedTasks[None] = SharedTasks()
        self._asked_s = -RETRY_S
        self._well_s: float | None = None
        self._ill_s: float | None = None
        self._waiting: WeakSet[InProgress] = WeakSet()
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_available(self) -> bool:
        is_heard = self._well_s is not None and self._clock() - self._well_s < SILENCE_S
        return is_heard and self._ill_s is None

    async def require(self, request: InProgress | None = None) -> None:
        """Raises: Unavailable: at once, and for `request` also later, if it is still not answered then."""
        self.watch()
        if not self.is_available and self._clock() - self._asked_s >= RETRY_S:
            await self.ask_now()
        if not self.is_available:
            raise self._error()
        if request is not None:
            self._waiting.add(request)

    def watch(self) -> None:
        """From now on it is asked again and again."""
        if self._watching is None or self._watching.done():
            self._watching = start_apart(self._watch())

    async def _watch(self) -> None:
        while True:
            await self.ask_now()
            await asyncio.sleep(PAUSE_S if self.is_available else RETRY_S)

    async def ask_now(self) -> None:
        """Learn how it is; those who ask at the same time learn it together."""
        await self._asks.join("ask", self._learn)()

    async def _learn(self) -> None:
        self._asked_s = asked_s = self._clock()
        answer = await self._ask()
        if answer is True:
            self._well_s, self._ill_s = asked_s, None
        elif answer is False:
            self._ill_s = asked_s if self._ill_s is None else self._ill_s
            if asked_s - self._ill_s >= WAITING_S:
                self._send_away()

    def _send_away(self) -> None:
        """Requests that were let in a moment too early wait in Serve's queue, as long as a start takes."""
        for request in list(self._waiting):
            if not request.is_answered:
                request.end(self._error())
        self._waiting.clear()

    def _error(self) -> Unavailable:
        return Unavailable(f"base model {self._base_model} cannot answer at the moment; try again")
