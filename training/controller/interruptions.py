"""The orders of a user that keep a job from going on: to cancel it."""

from registry.records import JobRecord
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.dispatcher import Dispatcher
from training.controller.job_listing import JobListing
from training.controller.outcomes import Outcomes


class Interruptions:
    """Every order is in the bucket before it is answered. Raises (all): JobNotFound, Unavailable.

    A job that has ended, or whose revision is being published, stays as it is.
    """

    def __init__(
        self, active: ActiveJobs, listing: JobListing, dispatcher: Dispatcher, outcomes: Outcomes
    ) -> None:
        self._active = active
        self._listing = listing
        self._dispatcher = dispatcher
        self._outcomes = outcomes

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

    def _stoppable(self, user: str, job_id: str) -> ActiveJob | None:
        job = self._active.get(job_id)
        if job is None or job.record.user != user:
            return None
        return None if job.publishing is not None or job.record.status.is_terminal else job
