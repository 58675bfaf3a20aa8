"""The jobs that are not finished: the record and the events of each, and the clients that follow it."""

import asyncio
import json
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from registry.errors import Superseded, Unavailable
from registry.jobs import Jobs
from registry.json_text import compact_json
from registry.leadership import MESSAGE
from registry.records import JobRecord
from training.event_line import EventLine

logger = logging.getLogger("ray.serve")

SAVE_INTERVAL_S = 1.0


def is_last(event: str) -> bool:
    """Return True for a `stop` or an `error`: no event follows it."""
    return json.loads(event)["type"] in ("stop", "error")


class ActiveJob:
    """A job that is not finished, with its record and its events.

    Events are JSON objects as text. The last one of a finished job is a `stop` or an `error`.
    """

    def __init__(self, jobs: Jobs, record: JobRecord, events: list[str] | None = None) -> None:
        self.record = record
        self.publishing: asyncio.Task[None] | None = None
        self.finishing: asyncio.Task[None] | None = None
        self.ending: asyncio.Task[None] | None = None
        self.keeping = asyncio.Lock()
        """Held while a revision of an epoch is taken up."""
        self.stepped_at: float | None = None
        """The monotonic time at which the last step was reported in this process; it is never stored."""
        self._jobs = jobs
        # After a crash between the last event and the end of the job, that event will be emitted again.
        self._events = [event for event in events or [] if not is_last(event)]
        self._changed = asyncio.Condition()
        # The latest mention, until the next event comes, and the number of mentions. They are never stored.
        self._passing: str | None = None
        self._num_passing = 0
        self._saved_at = 0.0
        self._is_save_due = False
        self._save_lock = asyncio.Lock()
        self._is_abandoned = False

    @property
    def events(self) -> list[str]:
        """All events so far, oldest first."""
        return list(self._events)

    async def emit(self, **event: Any) -> None:
        if self.record.fine_tuning is not None:  # OpenAI's API shows when each event happened
            event["created_at"] = int(time.time())
        async with self._changed:
            self._events.append(compact_json(event))
            self._passing = None
            self._changed.notify_all()

    async def mention(self, **event: Any) -> None:
        """Show an event to those who follow the job now. The next event or mention replaces it."""
        async with self._changed:
            self._passing = compact_json(event)
            self._num_passing += 1
            self._changed.notify_all()

    async def update(self, **changes: Any) -> None:
        if changes.get("step"):
            self.stepped_at = time.monotonic()
        async with self._changed:
            self.record = self.record.model_copy(update=changes)
            self._changed.notify_all()

    async def save(self) -> None:
        """Write events and record to the bucket. Raises: Unavailable."""
        async with self._save_lock:
            self._saved_at = time.monotonic()
            record, events = self.record, list(self._events)
            await asyncio.to_thread(self._jobs.save_events, record.user, record.id, events)
            await asyncio.to_thread(self._jobs.save, record)

    async def unmark(self) -> None:
        """Delete the marker of this job, whose end is saved. Raises: Unavailable."""
        await asyncio.to_thread(self._jobs.unmark, self.record)

    async def save_soon(self) -> None:
        """Save within a second. Many steps in one second are one write."""
        if self._is_save_due:
            return
        self._is_save_due = True
        try:
            await asyncio.sleep(self._saved_at + SAVE_INTERVAL_S - time.monotonic())
        finally:
            self._is_save_due = False
        if not self.record.status.is_terminal:
            await self.save()

    async def save_quietly(self) -> None:
        """Save within a second. If storage is away, the next save has what this one had."""
        try:
            await self.save_soon()
        except Unavailable:
            logger.warning("progress of job %s is not saved: storage is away", self.record.id)
        except Superseded:
            logger.warning("progress of job %s is not saved: a later Trainer has the job", self.record.id)

    async def abandon(self) -> None:
        """Send away those who follow the job, because a later Trainer has it."""
        async with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    async def follow(
        self, until_end: bool, after: int = 0, for_s: float | None = None
    ) -> AsyncIterator[EventLine]:
        """Every event after the first `after` ones, as a line. With `until_end`, also the events to come.

        The last event of the job comes in any case. A job that goes on after `for_s` seconds has an empty
        line at the end.

        Raises: Superseded, if the job was abandoned.
        """
        loop = asyncio.get_running_loop()
        until = None if for_s is None else loop.time() + for_s
        # A former Trainer may have shown more events than this one found in the bucket.
        sent, num_mentioned = min(after, max(len(self._events) - 1, 0)), 0
        while True:
            while sent < len(self._events):
                sent += 1
                if sent > after or is_last(self._events[sent - 1]):
                    yield EventLine(f"{self._events[sent - 1]}\n", sent)
            if not until_end or self.record.status.is_terminal:
                return
            if self._is_abandoned:
                raise Superseded(MESSAGE)
            if num_mentioned < self._num_passing:
                num_mentioned = self._num_passing
                if self._passing is not None:
                    yield EventLine(f"{self._passing}\n", sent)
            if until is not None and loop.time() >= until:
                yield EventLine("", sent)
                return
            async with self._changed:
                seen = sent, num_mentioned
                is_over = self.record.status.is_terminal or self._is_abandoned
                if seen == (len(self._events), self._num_passing) and not is_over:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(until):
                            await self._changed.wait()


class ActiveJobs:
    """All jobs that are not finished, indexed by user and by model, so that counting them takes no search.

    expect (being accepted) -> add (durable) -> end (its place is free) -> forget (its end is saved)
    """

    def __init__(self) -> None:
        self._jobs: dict[str, ActiveJob] = {}
        self._of_user: defaultdict[str, set[str]] = defaultdict(set)
        self._of_model: defaultdict[str, set[str]] = defaultdict(set)

    def expect(self, record: JobRecord) -> None:
        """Count the job from now on, so that many submissions at once cannot exceed the quota."""
        self._of_user[record.user].add(record.id)
        self._of_model[record.uid].add(record.id)

    def add(self, job: ActiveJob) -> None:
        self.expect(job.record)
        self._jobs[job.record.id] = job

    def end(self, record: JobRecord) -> None:
        """Stop counting the job. A second call changes nothing."""
        for ids, key in ((self._of_user, record.user), (self._of_model, record.uid)):
            ids[key].discard(record.id)
            if not ids[key]:
                del ids[key]

    def forget(self, record: JobRecord) -> None:
        self.end(record)
        self._jobs.pop(record.id, None)

    def clear(self) -> list[ActiveJob]:
        """Forget all jobs, and return them."""
        jobs = list(self._jobs.values())
        self._jobs.clear()
        self._of_user.clear()
        self._of_model.clear()
        return jobs

    def get(self, job_id: str) -> ActiveJob | None:
        return self._jobs.get(job_id)

    def knows(self, user: str, job_id: str) -> bool:
        """Return True if the job is being accepted, is not finished, or its end is not saved yet."""
        return job_id in self._jobs or job_id in self._of_user.get(user, ())

    def num_of_user(self, user: str) -> int:
        return len(self._of_user.get(user, ()))

    def has_model(self, uid: str) -> bool:
        return uid in self._of_model

    def has_other(self, record: JobRecord) -> bool:
        """Return True if another job of the same model has not ended."""
        return bool(self._of_model.get(record.uid, set()) - {record.id})

    def records_of_user(self, user: str) -> dict[str, JobRecord]:
        """The records of a user's accepted jobs that have not ended, by id."""
        return {
            job_id: self._jobs[job_id].record
            for job_id in self._of_user.get(user, ())
            if job_id in self._jobs
        }
