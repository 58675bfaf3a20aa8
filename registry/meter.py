"""Counts the usage of all users in one process, and saves it in the bucket.

    count  ->  a tally per user and day, in memory  --flush, every 30 s and at the end-->  UsageParts

A flush writes the complete totals of a changed tally. So a repeated write changes nothing, nor does a write
that happened although its answer was lost. A write that fails is tried again at the next flush. A tally that
is written and no longer used is forgotten; a later tally for the same user and day begins another part.
"""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable
from datetime import UTC, date, datetime

from registry.usage import Usage, UsageParts

logger = logging.getLogger("ray.serve")

FLUSH_INTERVAL_S = 30.0
MAX_CLEAN_TALLIES = 10_000


def utc_today() -> date:
    return datetime.now(UTC).date()


class Tally:
    """The totals of one user on one day, by model id."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.models: dict[str, Usage] = {}
        self.is_dirty = False


class Meter:
    """The tallies of one process. `count` does no I/O and never fails. Only one event loop uses a meter."""

    def __init__(
        self,
        parts: UsageParts,
        flush_interval_s: float = FLUSH_INTERVAL_S,
        today: Callable[[], date] = utc_today,
        max_clean_tallies: int = MAX_CLEAN_TALLIES,
    ) -> None:
        self._parts = parts
        self.flush_interval_s = flush_interval_s
        self._today = today
        self._max_clean_tallies = max_clean_tallies
        self._session = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._tallies: dict[tuple[str, date], Tally] = {}
        self._flushing = asyncio.Lock()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def count(self, user: str, model: str, usage: Usage) -> None:
        """Add to today's totals."""
        key = user, self._today()
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(f"{self._session}-{next(self._numbers)}")
        tally.models[model] = tally.models.get(model, Usage()) + usage
        tally.is_dirty = True

    def start(self) -> None:
        """Begin to flush regularly."""
        self._task = asyncio.ensure_future(self._flush_regularly())

    async def close(self) -> None:
        """Flush for the last time. If storage is away then, the totals are lost with the process."""
        self._closing.set()
        if self._task is not None:
            await self._task
        await self.flush()

    async def flush(self) -> None:
        """Write the tallies that have changed, until a write fails."""
        async with self._flushing:
            for (user, day), tally in list(self._tallies.items()):
                if tally.is_dirty and not await self._is_written(user, day, tally):
                    break  # the next writes would wait as long, and fail too
            self._forget()

    async def _is_written(self, user: str, day: date, tally: Tally) -> bool:
        tally.is_dirty = False
        try:
            await asyncio.to_thread(self._parts.save, user, day, tally.part, dict(tally.models))
        except BaseException as error:
            tally.is_dirty = True
            if not isinstance(error, Exception):
                raise
            logger.warning("usage is not saved: %s; it is kept and tried again", type(error).__name__)
            return False
        return True

    def _forget(self) -> None:
        """Forget saved tallies: those of past days, and the oldest ones if there are very many."""
        today = self._today()
        clean = [key for key, tally in self._tallies.items() if not tally.is_dirty]
        num_over = len(clean) - self._max_clean_tallies
        for index, key in enumerate(clean):
            if index < num_over or key[1] != today:
                del self._tallies[key]

    async def _flush_regularly(self) -> None:
        while not self._closing.is_set():
            try:
                # A change of the interval counts after the next flush.
                await asyncio.wait_for(self._closing.wait(), self.flush_interval_s)
            except TimeoutError:
                await self.flush()
