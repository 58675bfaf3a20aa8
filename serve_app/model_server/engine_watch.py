"""Ends a replica whose engine has died or hangs, so that Serve starts another one.

    the engine dies or hangs  ->  requests get their error  ->  usage is written  ->  the process ends

vLLM notices the death of its processes itself and then fails every request. Only a new process repairs that.
Serve replaces a process that has ended at once, but it waits for three failed health checks of one that
lives.

A busy engine does not count as one that hangs. It answers between two steps, and a step with long prompts may
take many seconds on a small machine.
"""

import asyncio
import contextvars
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from registry.errors import Unavailable

logger = logging.getLogger("ray.serve")

LOOK_INTERVAL_S = 0.2
ASK_INTERVAL_S = 5.0
HANGS_AFTER_S = 120.0
LEAVING_S = 0.25
"""The time that answers get to leave the process."""
LAST_ANSWERS_S = 3.0
LAST_WORDS_S = 3.0


class Engine(Protocol):
    """The part of vLLM's AsyncLLM that shows its state. The engine's own process answers `is_sleeping`."""

    @property
    def errored(self) -> bool: ...

    def is_sleeping(self) -> Coroutine[Any, Any, bool]: ...


class EngineWatch:
    """A watch over the engine of one replica.

    `count_generations` returns the number of generations in progress. `last_words` is awaited before the
    process ends.
    """

    def __init__(
        self,
        engine: Engine,
        count_generations: Callable[[], int],
        last_words: Callable[[], Awaitable[None]],
        end: Callable[[], None] = lambda: os._exit(1),
        hangs_after_s: float = HANGS_AFTER_S,
    ) -> None:
        self._engine = engine
        self._count_generations = count_generations
        self._last_words = last_words
        self._end = end
        self._hangs_after_s = hangs_after_s
        self._now = asyncio.get_running_loop().time
        self._asked_at = self._now()
        self._asking: asyncio.Task[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the watch in a separate context, because Serve cancels the tasks of a cancelled request."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), context=contextvars.Context())

    def stop(self) -> None:
        """Stops the watch, before the engine is stopped on purpose."""
        if self._task is not None:
            self._task.cancel()

    def check(self) -> None:
        """Raises: Unavailable, if the engine has died or hangs."""
        if reason := self._failure():
            raise Unavailable(f"the engine {reason}")

    def _failure(self) -> str | None:
        if self._engine.errored:
            return "has died"
        if self._asking is not None and self._now() - self._asked_at > self._hangs_after_s:
            return f"has not answered for {self._hangs_after_s:g} s"
        return None

    async def _watch(self) -> None:
        while (reason := self._failure()) is None:
            self._ask()
            await asyncio.sleep(LOOK_INTERVAL_S)
        logger.error("the engine %s: this replica ends", reason)
        for _ in range(int(LAST_ANSWERS_S / LEAVING_S)):
            await asyncio.sleep(LEAVING_S)
            if not self._count_generations():
                break
        try:
            await asyncio.wait_for(self._last_words(), LAST_WORDS_S)
        except Exception as error:
            logger.error("what was used last may not be counted: %r", error)
        self._end()

    def _ask(self) -> None:
        """Asks the engine a simple question. At most one question is open."""
        if self._asking is not None and self._asking.done():
            if not self._asking.cancelled():
                self._asking.exception()  # an engine that answers with an error does not hang
            self._asking = None
        if self._asking is None and self._now() - self._asked_at > ASK_INTERVAL_S:
            self._asked_at = self._now()
            self._asking = asyncio.ensure_future(self._engine.is_sleeping())
