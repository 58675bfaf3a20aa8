"""Reads jobs: those that are not finished from memory, all others from the bucket."""

import asyncio
from collections.abc import AsyncGenerator

from registry.jobs import Jobs
from registry.leadership import Unopposed
from registry.records import JobRecord, JobStatus
from training.controller.active_jobs import ActiveJobs, is_last
from training.event_line import EventLine


class JobListing:
    """The jobs of all users. Raises (all): Unavailable."""

    def __init__(self, jobs: Jobs, active: ActiveJobs, leadership: Unopposed) -> None:
        self._jobs = jobs
        self._active = active
        self._leadership = leadership

    async def job(self, user: str, job_id: str) -> JobRecord:
        """The record of a job. Raises: JobNotFound, also for a job of another user."""
        active = self._active.get(job_id)
        if active is not None and active.record.user == user:
            return active.record
        return await asyncio.to_thread(self._jobs.load, user, job_id)

    async def page(
        self, user: str, model: str | None, status: JobStatus | None, after: str | None, limit: int
    ) -> list[JobRecord]:
        """A user's jobs after the job `after`, newest first. Raises: JobNotFound (malformed `after`)."""
        found: list[JobRecord] = []
        while True:
            known = self._active.records_of_user(user)
            page = await asyncio.to_thread(self._jobs.page, user, after, limit, known)
            records = [job.record if (job := self._active.get(r.id)) is not None else r for r in page]
            found += [r for r in records if model in (None, r.model) and status in (None, r.shown_status)]
            if len(found) >= limit or len(page) < limit:
                return found[:limit]
            after = page[-1].id

    async def events(
        self, user: str, job_id: str, follow: bool, after: int = 0, for_s: float | None = None
    ) -> AsyncGenerator[EventLine, None]:
        """The NDJSON lines of a job after its first `after` events; with `follow`, until the job has ended.

        The last event of the job comes in any case. A job that goes on after `for_s` seconds has an empty
        line at the end. So has a job that a former controller has just accepted: this one takes it up soon.
        The caller asks again then.

        Raises: JobNotFound; Superseded, at the end of the events of a job that a later controller has.
        """
        job = self._active.get(job_id)
        if job is not None and job.record.user == user:
            async for line in job.follow(follow, after, for_s):
                yield line
            return
        record = await asyncio.to_thread(self._jobs.load, user, job_id)
        events = await asyncio.to_thread(self._jobs.load_events, user, job_id, record.epoch)
        for number, event in enumerate(events, 1):
            if number > after or (number == len(events) and is_last(event)):
                yield EventLine(f"{event}\n", number)
        if follow and not record.status.is_terminal:
            self._leadership.require()
            yield EventLine("", max(after, len(events)))
