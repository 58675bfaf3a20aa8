"""Ends a job as published, failed or cancelled, and saves its end, however long storage is away.

publish -> swap of models.json -> (the run may go on) -> adapter loaded ahead -> `stop`  -> saved -> counted
fail    reason saved -> `error` -> saved          cancel    cancellation saved -> `error` -> saved

A client is told an end only when the bucket has its cause: a manifest, a reason or a cancellation. A
controller that takes over after a crash finds that cause and ends the job in the same way.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

from registry.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    NoLearningSignal,
    Superseded,
    TrainingCancelled,
    TrainingDiverged,
)
from registry.leadership import Unopposed
from registry.meter import Meter
from registry.records import JobError, JobRecord, JobStatus, Manifest, ModelRecord, utc_now
from registry.retry import Retry
from registry.revisions import Revisions
from registry.tasks import BackgroundTasks, start_apart
from registry.usage import Usage, durations
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.dispatcher import Dispatcher
from training.controller.job_products import JobProducts
from training.controller.metrics import TrainingMetrics
from training.controller.publisher import Publisher
from training.types import TrainingOutcome

logger = logging.getLogger("ray.serve")

USER_CODES = {
    kind.code for kind in (InvalidRequest, ContextLengthExceeded, NoLearningSignal, TrainingDiverged)
}
"""The codes of failures that the request caused; another request would not fail so."""


class Outcomes:
    """Ends the jobs of a controller. A job leaves `active` when its end is saved."""

    def __init__(
        self,
        publisher: Publisher,
        revisions: Revisions,
        dispatcher: Dispatcher,
        active: ActiveJobs,
        metrics: TrainingMetrics,
        meter: Meter,
        retry: Retry,
        leadership: Unopposed,
        products: JobProducts,
    ) -> None:
        self._publisher = publisher
        self._revisions = revisions
        self._dispatcher = dispatcher
        self._active = active
        self._metrics = metrics
        self._meter = meter
        self._retry = retry
        self._leadership = leadership
        self._products = products
        self._background = BackgroundTasks()

    async def publish(self, job: ActiveJob, manifest: Manifest) -> None:
        """Make the revision current in models.json. The rest of the job's end runs beside the next job."""
        if job.publishing is None or job.publishing.done():
            job.publishing = start_apart(self._swap(job, manifest))
        await asyncio.shield(job.publishing)

    async def _swap(self, job: ActiveJob, manifest: Manifest) -> None:
        record = job.record
        if record.status.is_terminal:
            return
        await job.emit(type="info", message=f"Publishing revision {manifest.revision}")

        async def publish() -> ModelRecord:
            self._leadership.require()
            return await self._publisher.publish(record.user, record.uid, manifest.revision)

        model = await self._retry.call_async(publish)
        self._dispatcher.release(record)
        if job.finishing is None:
            job.finishing = start_apart(self._finish(job, manifest, model))

    async def _finish(self, job: ActiveJob, manifest: Manifest, model: ModelRecord) -> None:
        record = job.record
        adapter_id = model.adapter_id(manifest.revision)
        assert adapter_id is not None
        try:
            await self._publisher.preload(record.base_model, adapter_id)
        except Exception:
            # The revision is current: the first request will load it.
            logger.warning("adapter %s could not be loaded ahead", adapter_id, exc_info=True)
        else:
            if job.stepped_at is not None:  # else another controller was told of the last step
                self._metrics.published(record.base_model, time.monotonic() - job.stepped_at)
        await self._products.keep_results(job)
        outcome = TrainingOutcome.of(manifest.metrics)
        await job.emit(
            type="stop",
            stop_reason="completed",
            job=record.id,
            model=record.model,
            revision=manifest.revision,
            metrics=outcome.metrics,
            usage={"trained_tokens": outcome.trained_tokens, **durations(outcome.duration_s)},
        )
        await self._end(
            job,
            status=JobStatus.SUCCEEDED,
            metrics=outcome.metrics,
            trained_tokens=outcome.trained_tokens,
            duration_s=outcome.duration_s,
            step=record.steps,
        )

    async def fail(self, job: ActiveJob, code: str, message: str) -> None:
        await self._once(job, self._fail(job, code, message))

    async def cancel(self, job: ActiveJob) -> None:
        await self._once(job, self._cancel(job))

    async def _once(self, job: ActiveJob, end: Coroutine[Any, Any, None]) -> None:
        """Run `end` only if the job has no other end yet. It goes on even if the caller is cancelled."""
        if job.ending is None:
            job.ending = asyncio.ensure_future(end)
        else:
            end.close()
        await asyncio.shield(job.ending)

    async def _fail(self, job: ActiveJob, code: str, message: str) -> None:
        self._dispatcher.release(job.record)
        await job.update(error=JobError(code=code, message=message))
        await self._retry.call_async(job.save)
        await self._products.discard_model(job)
        kind = "invalid_request_error" if code in USER_CODES else "server_error"
        detail = {"type": kind, "code": code, "message": message, "param": None}
        await job.emit(type="error", message=message, error=detail)
        await self._end(job, status=JobStatus.FAILED, revision=None)

    async def _cancel(self, job: ActiveJob) -> None:
        self._dispatcher.release(job.record)
        await self._products.discard_model(job)
        message = "the training was cancelled"
        detail = {"type": "conflict_error", "code": TrainingCancelled.code, "message": message, "param": None}
        await job.emit(type="error", message=message, error=detail)
        await self._end(job, status=JobStatus.CANCELLED, revision=None)

    async def _end(self, job: ActiveJob, **changes: Any) -> None:
        """Answer those who wait, and save the end, trying again until storage has it."""
        before = job.record
        await job.update(finished=utc_now(), is_held=False, **changes)
        self._active.end(job.record)
        self._metrics.ended(
            job.record.base_model, job.record.status, _run_seconds(job.record), job.record.trained_tokens
        )
        self._background.start(self._keep(job, before))

    async def _keep(self, job: ActiveJob, before: JobRecord) -> None:
        try:
            await self._retry.call_async(job.save)
        except Superseded:
            logger.warning("the end of job %s is left to a later Trainer, which has the job", job.record.id)
            return
        self._count(job.record)
        # Only now: until the end is saved, a later Trainer may have the job and continue from this state.
        if before.revision is not None and job.record.revision is None:
            delete = partial(self._revisions.delete_state, before.uid, before.revision, before.id)
            await self._retry.call_async(lambda: asyncio.to_thread(delete))
        await self._retry.call_async(job.unmark)
        self._active.forget(job.record)

    def _count(self, record: JobRecord) -> None:
        """Count the usage of a job whose end is saved. Such a job never ends again, so none counts twice.

        A job that was cancelled or has failed costs what its last checkpoint did, which its user keeps.
        """
        if record.status is JobStatus.SUCCEEDED or record.checkpoints:
            usage = Usage(trained_tokens=record.trained_tokens, training_seconds=record.duration_s)
            self._meter.count(record.user, record.model, usage)


def _run_seconds(record: JobRecord) -> float:
    if record.started is None or record.finished is None:
        return 0.0
    # The clock of the machine may have been set back.
    return max((record.finished - record.started).total_seconds(), 0.0)
