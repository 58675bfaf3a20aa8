"""Keeps jobs from going on: a user cancels one or holds it until they resume it, or it gave way to others.

pause  -> the job is held: a waiting one is not taken, and a running one gives way within a pack
resume -> it waits for its turn again; its worker goes on where it was, or else from the last saved state
"""

from registry.records import JobRecord
from registry.tasks import BackgroundTasks
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.dispatcher import Dispatcher
from training.controller.job_listing import JobListing
from training.controller.outcomes import Outcomes


class Interruptions:
    """Every order of a user is in the bucket before it is answered. Raises: JobNotFound, Unavailable.

    A job that has ended, or whose revision is being published, stays as it is.
    """

    def __init__(
        self, active: ActiveJobs, listing: JobListing, dispatcher: Dispatcher, outcomes: Outcomes
    ) -> None:
        self._active = active
        self._listing = listing
        self._dispatcher = dispatcher
        self._outcomes = outcomes
        self._background = BackgroundTasks()

    async def cancel(self, user: str, job_id: str) -> JobRecord:
        """End a job without a further revision. A running one ends within a pack, every other one at once."""
        job = self._stoppable(user, job_id)
        if job is None:
            return await self._listing.job(user, job_id)
        await job.update(is_cancelled=True)
        await job.save()
        if not job.record.status.is_terminal and not self._dispatcher.has_taken(job.record):
            await self._outcomes.cancel(job)
        return job.record

    async def pause(self, user: str, job_id: str) -> JobRecord:
        """Hold a job. Later jobs of its model wait for it; a held job stays as it is."""
        job = self._stoppable(user, job_id)
        if job is None or job.ending is not None:
            return await self._listing.job(user, job_id)
        if not job.record.is_held and not job.record.is_cancelled:
            # At once: nobody would take back the hold of a job that has ended meanwhile.
            self._dispatcher.hold(job.record)
            await job.update(is_held=True)
            await job.emit(type="info", message="Paused by its user, until they resume it")
        await job.save()
        return job.record

    async def resume(self, user: str, job_id: str) -> JobRecord:
        """Hold a job no longer. A job that is not held stays as it is."""
        job = self._stoppable(user, job_id)
        if job is None:
            return await self._listing.job(user, job_id)
        if job.record.is_held:
            await job.update(is_held=False)
            await job.emit(type="info", message="Resumed by its user; it waits for its turn")
            await self._dispatcher.let_go(job.record)
        await job.save()
        return job.record

    async def gave_way(self, job: ActiveJob) -> None:
        """Note that the worker of a job has stopped, and keeps the state of the job."""
        self._dispatcher.pause(job.record)
        if job.record.is_cancelled:
            await self._outcomes.cancel(job)
            return
        await job.update(is_paused=True)
        if not job.record.is_held:  # else its user was told when they held it
            await job.emit(type="info", message="Paused: others are having their turn")
        self._background.start(job.save_quietly())

    def _stoppable(self, user: str, job_id: str) -> ActiveJob | None:
        job = self._active.get(job_id)
        if job is None or job.record.user != user:
            return None
        return None if job.publishing is not None or job.record.status.is_terminal else job
