"""Takes up the revisions that jobs make at the ends of their epochs, before their last one.

manifest written by the worker  ->  the model's latest revision is raised  ->  the record lists it  ->  event

If the controller dies in between, the next attempt at the job makes the same revision again, which changes
nothing, and reports it again. A job that ends without its last revision keeps those that were reported.
"""

import asyncio

from registry.errors import JobNotFound
from registry.leadership import Unopposed
from registry.records import Checkpoint, ModelRecord
from registry.retry import Retry
from registry.revisions import Revisions
from training.controller.active_jobs import ActiveJob
from training.controller.publisher import Publisher
from training.types import TrainingOutcome


class Checkpoints:
    def __init__(
        self, publisher: Publisher, revisions: Revisions, retry: Retry, leadership: Unopposed
    ) -> None:
        self._publisher = publisher
        self._revisions = revisions
        self._retry = retry
        self._leadership = leadership

    async def keep(self, job: ActiveJob, revision: int) -> None:
        """Let the model answer with a revision that this job has written. The current one stays.

        Raises: JobNotFound: this job has not written it; Superseded, Unavailable.
        """
        # A worker whose call took too long calls again.
        async with job.keeping:
            await self._keep(job, revision)

    async def _keep(self, job: ActiveJob, revision: int) -> None:
        record = job.record
        manifest = await asyncio.to_thread(self._revisions.manifest, record.uid, revision)
        if manifest is None or manifest.job != record.id or manifest.step is None:
            raise JobNotFound("the revision of this attempt is not there")

        async def keep() -> ModelRecord:
            self._leadership.require()
            return await self._publisher.keep(record.user, record.uid, revision)

        await self._retry.call_async(keep)
        if revision not in {known.revision for known in job.record.checkpoints}:
            outcome = TrainingOutcome.of(manifest.metrics)
            made = Checkpoint(
                revision=revision, step=manifest.step, created=manifest.created, metrics=outcome.metrics
            )
            await job.update(
                checkpoints=(*job.record.checkpoints, made),
                trained_tokens=outcome.trained_tokens,
                duration_s=outcome.duration_s,
            )
            message = f"Revision {revision} has the weights after step {manifest.step}"
            await job.emit(type="info", message=message)
        await job.save()
