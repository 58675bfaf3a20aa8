"""Takes up the unfinished jobs of the bucket when a controller starts."""

import asyncio

from registry.jobs import Jobs
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.base_models import waits_for
from training.controller.dispatcher import Dispatcher


async def take_up(jobs: Jobs, active: ActiveJobs, dispatcher: Dispatcher) -> None:
    """Queue the unfinished jobs, oldest first. Jobs of a base model that is not deployed wait for it."""
    for record in await asyncio.to_thread(jobs.active):
        # A job that only waited has no saved events, so nothing is read for each of a thousand of them.
        has_events = record.attempt > 0 or record.is_cancelled
        events = await asyncio.to_thread(jobs.load_events, record.user, record.id) if has_events else []
        job = ActiveJob(jobs, record, events)
        active.add(job)
        await job.emit(type="info", message="Taken up again after a restart")
        if not dispatcher.serves(record.base_model):
            await job.emit(type="info", message=waits_for(record.base_model))
        await dispatcher.put(record)
