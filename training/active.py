"""A job that is not finished: its record, its events so far, and those who wait for more."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from registry.jobs import Jobs
from registry.records import JobRecord

SAVE_INTERVAL_S = 1.0


def is_last(event: str) -> bool:
    """Nothing follows a `stop` or an `error`."""
    return json.loads(event)["type"] in ("stop", "error")


class ActiveJob:
    """Events are JSON objects as text; the last one of a finished job is a `stop` or an `error`."""

    def __init__(self, jobs: Jobs, record: JobRecord, events: list[str] | None = None) -> None:
        self.record = record
        self.publishing: asyncio.Task[None] | None = None
        self.finishing: asyncio.Task[None] | None = None
        self._jobs = jobs
        # A crash between the last event and the end of the job: it will be told again.
        self._events = [event for event in events or [] if not is_last(event)]
        self._changed = asyncio.Condition()
        self._saved_at = 0.0
        self._save_lock = asyncio.Lock()

    async def emit(self, **event: Any) -> None:
        async with self._changed:
            self._events.append(json.dumps(event, ensure_ascii=False, separators=(",", ":")))
            self._changed.notify_all()

    async def update(self, **changes: Any) -> None:
        async with self._changed:
            self.record = self.record.model_copy(update=changes)
            self._changed.notify_all()

    async def save(self) -> None:
        """Write events and record to the bucket. Raises: Unavailable."""
        async with self._save_lock:
            self._saved_at = time.monotonic()
            record, events = self.record, list(self._events)
            await asyncio.to_thread(self._jobs.save_events, record.user, record.id, events)
            save = self._jobs.finish if record.status.is_terminal else self._jobs.save
            await asyncio.to_thread(save, record)

    async def save_now_and_then(self) -> None:
        """Write at most once a second, so that a step never waits for the bucket for long."""
        if time.monotonic() - self._saved_at >= SAVE_INTERVAL_S and not self._save_lock.locked():
            await self.save()

    async def follow(self, until_end: bool) -> AsyncIterator[str]:
        """Every event from the first on, as a line; with `until_end`, also those to come."""
        sent = 0
        while True:
            while sent < len(self._events):
                sent += 1
                yield f"{self._events[sent - 1]}\n"
            if not until_end or self.record.status.is_terminal:
                return
            async with self._changed:
                if sent == len(self._events) and not self.record.status.is_terminal:
                    await self._changed.wait()
