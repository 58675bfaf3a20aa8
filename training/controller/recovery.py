"""Takes up unfinished jobs of the bucket that this controller does not know.

They are the jobs of an earlier controller, and later those that a former Trainer accepts which does not know
yet that it was superseded.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import TypeVar

from registry.jobs import Jobs
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.base_models import waits_for
from training.controller.dispatcher import Dispatcher

T = TypeVar("T")
BATCH_JOBS = 64
"""The number of jobs that are taken over at the same time."""


class Recovery:
    def __init__(self, jobs: Jobs, active: ActiveJobs, dispatcher: Dispatcher) -> None:
        self._jobs = jobs
        self._active = active
        self._dispatcher = dispatcher
        # The first call takes long if there are many jobs. The next call would find the same jobs.
        self._taking_up = asyncio.Lock()

    async def take_up(self) -> None:
        """Queue the unfinished jobs, oldest first. Jobs of a base model that is not deployed wait for it.

        Raises: Superseded, Unavailable.
        """
        async with self._taking_up:
            await self._take_up()

    async def _take_up(self) -> None:
        found = await asyncio.to_thread(self._jobs.unfinished, self._active.knows)
        for batch in _batches(found, BATCH_JOBS):
            taking = (asyncio.to_thread(self._jobs.take_over, job) for job in batch)
            for opened in await asyncio.gather(*taking):
                if opened is None:
                    continue
                record = opened.record
                if self._active.knows(record.user, record.id):  # a client submitted it again meanwhile
                    continue
                job = ActiveJob(self._jobs, record, opened.events)
                self._active.add(job)
                await job.emit(type="info", message="Taken up again after a restart")
                if not self._dispatcher.serves(record.base_model):
                    await job.emit(type="info", message=waits_for(record.base_model))
                await self._dispatcher.put(record)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
