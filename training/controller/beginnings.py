"""Begins an attempt at a job, or ends the job if it needs no further attempt.

an error, a cancellation or a manifest was saved    ->  the job only ends
too many attempts in a row made no progress         ->  the job fails
otherwise  ->  revision and attempt are fixed and saved  ->  Assignment
"""

import asyncio
from collections.abc import Mapping

from registry.errors import JobNotFound, ModelNotFound, Unavailable
from registry.jobs import Jobs
from registry.records import JobRecord, JobStatus, Manifest, ModelRecord, utc_now
from registry.revisions import Revisions
from registry.tasks import BackgroundTasks
from training.controller.active_jobs import ActiveJob
from training.controller.dispatcher import Dispatcher
from training.controller.metrics import TrainingMetrics
from training.controller.outcomes import Outcomes
from training.controller.publisher import Publisher
from training.epochs import Epochs
from training.settings import TrainingSettings
from training.types import Assignment, Resumption


class Beginnings:
    """Begins the attempts at all jobs. Every method raises Unavailable if storage is away."""

    def __init__(
        self,
        jobs: Jobs,
        publisher: Publisher,
        revisions: Revisions,
        settings: Mapping[str, TrainingSettings],
        outcomes: Outcomes,
        dispatcher: Dispatcher,
        metrics: TrainingMetrics,
    ) -> None:
        self._jobs = jobs
        self._publisher = publisher
        self._revisions = revisions
        self._settings = settings
        self._outcomes = outcomes
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._background = BackgroundTasks()

    async def order(self, record: JobRecord, job: ActiveJob | None) -> Assignment | Resumption | None:
        """Begin a job that was taken, or continue it. None: it has ended; `job` is None if that is saved."""
        if job is None:
            self._dispatcher.release(record)
            return None
        is_kept = self._dispatcher.is_kept(job.record)
        order = await (self._resume(job) if is_kept else self.assign(job))
        if order is not None:
            self._dispatcher.resume(job.record)
        return order

    async def _resume(self, job: ActiveJob) -> Resumption | None:
        """Continue a job whose state the worker kept; None if it was cancelled at the last moment."""
        if job.record.is_cancelled:
            await self._outcomes.cancel(job)
            return None
        await job.update(is_paused=False)
        await job.emit(type="info", message="Going on")
        self._background.start(job.save_quietly())
        return Resumption(job_id=job.record.id, attempt=job.record.attempt)

    async def assign(self, job: ActiveJob) -> Assignment | None:
        """Start an attempt and return it; None if the job needs no attempt."""
        record = job.record
        try:
            if await self._has_ended(job):
                return None
            model = await self._publisher.model(record.user, record.uid)
        except ModelNotFound as error:
            await self._outcomes.fail(job, error.code, error.message)
            return None
        request = await asyncio.to_thread(self._jobs.load_request, record.user, record.id)
        is_first = record.revision is None
        if is_first:
            model = await self._with_free_revision(record, model)
        num_checkpoints = Epochs.of(request).num_checkpoints
        await job.update(
            status=JobStatus.RUNNING,
            # Not from `record`: another worker may have been given the job while this one waited.
            attempt=job.record.attempt + 1,
            is_paused=False,
            started=record.started or utc_now(),
            parent_revision=model.revision if is_first else record.parent_revision,
            revision=model.latest_revision + num_checkpoints + 1 if is_first else record.revision,
            step=0,
            stalled_attempts=_stalled_attempts(record),
            furthest_step=max(record.step, record.furthest_step),
        )
        await job.save()
        if record.started is None and job.record.started is not None:
            wait_s = (job.record.started - record.created).total_seconds()
            self._metrics.started(record.base_model, max(wait_s, 0.0))
        return Assignment.of(job.record, model, request)

    async def manifest(self, record: JobRecord) -> Manifest | None:
        """The manifest that an attempt at this job wrote, or None."""
        if record.revision is None:
            return None
        manifest = await asyncio.to_thread(self._revisions.manifest, record.uid, record.revision)
        return manifest if manifest is not None and manifest.job == record.id else None

    async def _has_ended(self, job: ActiveJob) -> bool:
        """Return True if the job needs no attempt; in that case, end the job."""
        record = job.record
        if record.error is not None:
            await self._outcomes.fail(job, record.error.code, record.error.message)
        elif (manifest := await self.manifest(record)) is not None:
            await self._outcomes.publish(job, manifest)
        elif record.is_cancelled:
            await self._outcomes.cancel(job)
        elif _stalled_attempts(record) >= self._settings[record.base_model].max_attempts:
            message = "the training failed repeatedly and was given up"
            await self._outcomes.fail(job, "training_failed", message)
        else:
            return False
        return True

    async def _with_free_revision(self, record: JobRecord, model: ModelRecord) -> ModelRecord:
        """The model, whose next revisions this job may make.

        A worker may have written the next one late, for another job. It writes no more than one, because it
        reports each. If that job was given up, which is saved and final, the revision is discarded. If the
        job succeeded or lists the revision, our list of models is an old one.

        Raises: Unavailable: the other job has not ended, or a later controller goes on with it.
        """
        uid, revision = record.uid, model.latest_revision + 1
        maker = await asyncio.to_thread(self._revisions.maker, uid, revision)
        if maker is None or maker == record.id:
            return model
        try:
            other = await asyncio.to_thread(self._jobs.load, record.user, maker)
        except JobNotFound:  # an operator has deleted the records of old jobs
            await asyncio.to_thread(self._revisions.discard, uid, revision, maker, record.id)
            return model
        if not other.status.is_terminal:
            raise Unavailable("another training has written this revision and has not ended")
        if revision in {checkpoint.revision for checkpoint in other.checkpoints}:
            kept = await self._publisher.keep(record.user, uid, revision)
            return await self._with_free_revision(record, kept)
        if other.status is JobStatus.SUCCEEDED:
            published = await self._publisher.publish(record.user, uid, revision)
            return await self._with_free_revision(record, published)
        await asyncio.to_thread(self._revisions.discard, uid, revision, maker, record.id)
        return model


def _stalled_attempts(record: JobRecord) -> int:
    """The number of attempts in a row without progress, the last one included.

    An attempt that was paused does not count: the job did not make its worker die.
    """
    if record.step > record.furthest_step:
        return 0
    return record.stalled_attempts + (record.attempt > 0 and not record.is_paused)
