"""Takes up unfinished jobs of the bucket that this controller does not know.

They are the jobs of an earlier controller, and later those that a former Trainer accepts which does not know
yet that it was superseded.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import TypeVar

from registry.jobs import Jobs
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.dispatcher import Dispatcher

logger = logging.getLogger("ray.serve")

T = TypeVar("T")
BATCH_JOBS = 64
"""The number of jobs that are taken over at the same time."""


class Recovery:
    def __init__(self, jobs: Jobs, active: ActiveJobs, dispatcher: Dispatcher) -> None:
        self._jobs = jobs
        self._active = active
        self._dispatcher = dispatcher
        self._not_served: set[str] = set()

    async def take_up(self) -> None:
        """Queue the unfinished jobs, oldest first. Jobs of a base model that is not configured wait on.

        Raises: Superseded, Unavailable.
        """
        found = await asyncio.to_thread(self._jobs.unfinished, self._is_known)
        for job in found:
            if not self._dispatcher.serves(job.record.base_model):
                self._not_served.add(job.record.id)
                logger.error(
                    "job %s waits for base model %s, not configured", job.record.id, job.record.base_model
                )
        served = [job for job in found if job.record.id not in self._not_served]
        for batch in _batches(served, BATCH_JOBS):
            taking = (asyncio.to_thread(self._jobs.take_over, job) for job in batch)
            for opened in await asyncio.gather(*taking):
                if opened is None:
                    continue
                active = ActiveJob(self._jobs, opened.record, opened.events)
                self._active.add(active)
                await active.emit(type="info", message="Taken up again after a restart")
                await self._dispatcher.put(opened.record)

    def _is_known(self, user: str, job_id: str) -> bool:
        return job_id in self._not_served or self._active.knows(user, job_id)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
