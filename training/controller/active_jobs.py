"""Jobs that are not finished: the record of each, its events so far, and those who wait for more."""

import asyncio
import json
import time
from collections import defaultdict
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
        self.ending: asyncio.Task[None] | None = None
        self._jobs = jobs
        # A crash between the last event and the end of the job: it will be told again.
        self._events = [event for event in events or [] if not is_last(event)]
        self._changed = asyncio.Condition()
        # What is of interest now and is kept nowhere, and how often there was such a thing.
        self._passing: str | None = None
        self._num_passing = 0
        self._saved_at = 0.0
        self._is_save_due = False
        self._save_lock = asyncio.Lock()

    async def emit(self, **event: Any) -> None:
        async with self._changed:
            self._events.append(_as_text(event))
            self._passing = None
            self._changed.notify_all()

    async def mention(self, **event: Any) -> None:
        """An event for those who look now; the next one of either kind takes its place."""
        async with self._changed:
            self._passing = _as_text(event)
            self._num_passing += 1
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

    async def save_soon(self) -> None:
        """Write within a second what there is by then; many steps a second are one write."""
        if self._is_save_due:
            return
        self._is_save_due = True
        try:
            await asyncio.sleep(self._saved_at + SAVE_INTERVAL_S - time.monotonic())
        finally:
            self._is_save_due = False
        if not self.record.status.is_terminal:
            await self.save()

    async def follow(self, until_end: bool) -> AsyncIterator[str]:
        """Every event from the first on, as a line; with `until_end`, also those to come."""
        sent = num_mentioned = 0
        while True:
            while sent < len(self._events):
                sent += 1
                yield f"{self._events[sent - 1]}\n"
            if not until_end or self.record.status.is_terminal:
                return
            if num_mentioned < self._num_passing:
                num_mentioned = self._num_passing
                if self._passing is not None:
                    yield f"{self._passing}\n"
            async with self._changed:
                seen = sent, num_mentioned
                if seen == (len(self._events), self._num_passing) and not self.record.status.is_terminal:
                    await self._changed.wait()


def _as_text(event: dict[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


class ActiveJobs:
    """All jobs that are not finished, and how many of them a user or a model has, without looking at each.

    expect (being accepted) -> add (durable) -> end (its place is free) -> forget (its end is saved)
    """

    def __init__(self) -> None:
        self._jobs: dict[str, ActiveJob] = {}
        self._of_user: defaultdict[str, set[str]] = defaultdict(set)
        self._of_model: defaultdict[str, set[str]] = defaultdict(set)

    def expect(self, record: JobRecord) -> None:
        """It counts from now on, so that of many submissions at once none is over the quota."""
        self._of_user[record.user].add(record.id)
        self._of_model[record.uid].add(record.id)

    def add(self, job: ActiveJob) -> None:
        self.expect(job.record)
        self._jobs[job.record.id] = job

    def end(self, record: JobRecord) -> None:
        """It counts no more; again, it changes nothing."""
        for ids, key in ((self._of_user, record.user), (self._of_model, record.uid)):
            ids[key].discard(record.id)
            if not ids[key]:
                del ids[key]

    def forget(self, record: JobRecord) -> None:
        self.end(record)
        self._jobs.pop(record.id, None)

    def get(self, job_id: str) -> ActiveJob | None:
        return self._jobs.get(job_id)

    def num_of_user(self, user: str) -> int:
        return len(self._of_user.get(user, ()))

    def has_model(self, uid: str) -> bool:
        return uid in self._of_model

    def records_of_user(self, user: str) -> dict[str, JobRecord]:
        """Accepted and not ended, by id."""
        return {
            job_id: self._jobs[job_id].record
            for job_id in self._of_user.get(user, ())
            if job_id in self._jobs
        }
