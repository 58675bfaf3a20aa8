"""Accepted trainings: durable, in order, each exactly once.

    submit  ->  bucket (request, record, marker)  ->  queue of the base model  ->  next_assignment
                                                                                     |  (a worker asks)
    done  <-  adapter loaded ahead  <-  catalogue swap  <-  complete  <-  manifest <-+

A worker enters, asks for work and reports back; the controller never calls a worker. Only the worker that
entered last gets work. Reports are fenced by (job, attempt): those of an attempt that was given up are
refused. The manifest in the bucket decides whether a training happened. After a crash the markers in the
bucket say what is left to do, and a job whose revision has its manifest only has its bookkeeping finished.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Literal

from registry.errors import JobNotFound, ModelInUse, ModelNotFound, Unavailable
from registry.jobs import Jobs
from registry.meter import FLUSH_INTERVAL_S, Meter
from registry.records import JobRecord, JobRequest, JobStatus, Manifest, ModelRecord, utc_now
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.tasks import start_apart
from registry.usage import UsageParts
from training.acceptance import Acceptance
from training.active import ActiveJob, ActiveJobs
from training.dispatcher import Dispatcher, StartRun
from training.endings import Endings, Publisher
from training.metrics import NoMetrics, TrainingMetrics
from training.settings import TrainingSettings
from training.shared_gpus import SharedGpus
from training.types import Assignment, StepProgress

logger = logging.getLogger("ray.serve")


class TrainingController:
    """One per installation. Its public coroutines are called through Ray handles.

    A thousand jobs may wait: what is done for one of them never looks at the others, and a waiting job
    is its record in memory; its request stays in the bucket.

    Raises (everything that touches the bucket): Unavailable.
    """

    def __init__(
        self,
        store: ObjectStore,
        publisher: Publisher,
        settings: dict[str, TrainingSettings],
        start_run: StartRun,
        max_queued_jobs_per_user: int,
        metrics: TrainingMetrics | None = None,
        usage_flush_interval_s: float = FLUSH_INTERVAL_S,
    ) -> None:
        self._jobs = Jobs(store)
        self._revisions = Revisions(store)
        self._publisher = publisher
        self._settings = settings
        self._metrics = metrics or NoMetrics()
        self._meter = Meter(UsageParts(store), usage_flush_interval_s)
        self._active = ActiveJobs()
        self._gpus = SharedGpus(publisher, settings)
        self._launch = start_run
        self._dispatcher = Dispatcher(settings, self._begin_run, self._metrics)
        self._endings = Endings(
            publisher, self._revisions, self._dispatcher, self._active, self._metrics, self._meter
        )
        self._acceptance = Acceptance(
            store, self._active, self._dispatcher, max_queued_jobs_per_user, self.job
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Take up what the bucket says is unfinished, oldest first. Called once, before anything else."""
        self._spawn(self._gpus.take_all_back())
        for record in await asyncio.to_thread(self._jobs.active):
            if not self._dispatcher.serves(record.base_model):
                logger.error("job %s waits for base model %s, not configured", record.id, record.base_model)
                continue
            # Of those that only waited no events are saved: a thousand of them are not asked for one by one.
            has_events = record.attempt > 0 or record.is_cancelled
            load = self._jobs.load_events
            events = await asyncio.to_thread(load, record.user, record.id) if has_events else []
            job = ActiveJob(self._jobs, record, events)
            self._active.add(job)
            await job.emit(type="info", message="Taken up again after a restart")
            await self._dispatcher.put(record)

    async def submit(
        self, user: str, model: ModelRecord, request: JobRequest, idempotency_key: str | None = None
    ) -> JobRecord:
        """Accept a training; once this returns it is durable. A repeat with the same key is the same job.

        Raises:
            QuotaExceeded.
            ModelNotFound: the model is being deleted.
            IdempotencyConflict: the key was used with another request.
        """
        return await self._acceptance.submit(user, model, request, idempotency_key)

    async def is_training(self, uid: str) -> bool:
        return self._active.has_model(uid)

    async def delete_model(self, user: str, model: ModelRecord) -> None:
        """Delete a model that no unfinished job uses. Raises: ModelInUse, ModelNotFound."""
        if await self.is_training(model.uid):
            raise ModelInUse("a training of this model has not ended; wait for it", "model")
        with self._acceptance.refusing(model.uid):
            await self._publisher.delete(user, model.uid, model.base_model)

    async def job(self, user: str, job_id: str) -> JobRecord:
        """Raises: JobNotFound, for another user's too."""
        active = self._active.get(job_id)
        if active is not None and active.record.user == user:
            return active.record
        return await asyncio.to_thread(self._jobs.load, user, job_id)

    async def list_jobs(
        self, user: str, model: str | None, status: JobStatus | None, after: str | None, limit: int
    ) -> list[JobRecord]:
        """Newest first, starting behind the job `after`. Raises: JobNotFound (malformed `after`)."""
        found: list[JobRecord] = []
        while True:
            known = self._active.records_of_user(user)
            page = await asyncio.to_thread(self._jobs.page, user, after, limit, known)
            records = [job.record if (job := self._active.get(r.id)) is not None else r for r in page]
            found += [r for r in records if model in (None, r.model) and status in (None, r.status)]
            if len(found) >= limit or len(page) < limit:
                return found[:limit]
            after = page[-1].id

    async def events(self, user: str, job_id: str, follow: bool) -> AsyncIterator[str]:
        """NDJSON lines of a job from its first on; with `follow`, until it has ended.

        Raises: JobNotFound.
        """
        job = self._active.get(job_id)
        if job is not None and job.record.user == user:
            async for line in job.follow(follow):
                yield line
            return
        await asyncio.to_thread(self._jobs.load, user, job_id)
        for event in await asyncio.to_thread(self._jobs.load_events, user, job_id):
            yield f"{event}\n"

    async def cancel(self, user: str, job_id: str) -> JobRecord:
        """End a job without a revision: a waiting one at once, a running one within a step.

        One that has ended, or whose revision is being published, stays as it is. Raises: JobNotFound.
        """
        job = self._active.get(job_id)
        if job is None or job.record.user != user:
            return await asyncio.to_thread(self._jobs.load, user, job_id)
        if job.publishing is None and not job.record.status.is_terminal:
            await job.update(is_cancelled=True)
            await job.save()
            if not job.record.status.is_terminal and not self._dispatcher.has_taken(job.record):
                await self._endings.cancel(job)
        return job.record

    async def enter(self, base_model: str) -> str:
        """A worker of the run of `base_model` begins; what it is to call itself when it asks for work."""
        await self._gpus.take_back(base_model)
        return await self._dispatcher.enter(base_model)

    async def next_assignment(self, base_model: str, worker: str) -> Assignment | Literal["wait", "leave"]:
        """The next job for the run of `base_model`; `wait`: ask again; `leave`: end the run.

        A run that asks before it has reported has lost its worker: it gets the same job as a new attempt.
        A worker that another one has replaced, or that entered with an earlier controller, is to leave.
        """
        take = self._dispatcher.take
        while (job := self._active.get(job_id := await take(base_model, worker))) is not None:
            try:
                assignment = await self._assign(job)
                if assignment is not None:
                    await self._gpus.lend(base_model)
            except BaseException:
                self._dispatcher.give_back(base_model)
                raise
            if assignment is not None:
                return assignment
        assert job_id in ("wait", "leave")
        return job_id

    async def progress(self, job_id: str, attempt: int, step: StepProgress) -> bool:
        """Whether the job was cancelled. Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await job.update(step=step.step)
        await job.emit(type="progress", **step.model_dump())
        self._metrics.stepped(job.record.base_model, step)
        self._spawn(self._save_quietly(job))
        return job.record.is_cancelled

    async def inform(self, job_id: str, attempt: int, message: str) -> bool:
        """Whether the job was cancelled. Raises: JobNotFound when the attempt was given up.

        What was reported before is in the bucket when this returns: a worker says so before it writes a
        state or the revision, from where on no step is made, and reported, again.
        """
        job = self._attempt(job_id, attempt)
        await job.save()
        await job.emit(type="info", message=message)
        return job.record.is_cancelled

    async def stopped(self, job_id: str, attempt: int) -> None:
        """The worker ended a cancelled job. Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await self._gpus.take_back(job.record.base_model)
        await self._endings.cancel(job)

    async def complete(self, job_id: str, attempt: int) -> None:
        """The manifest is written: make the revision current, then answer those who wait.

        Returns when the next job may start. Raises: JobNotFound when the attempt was given up.
        """
        job = self._attempt(job_id, attempt)
        manifest = await self._manifest(job.record)
        if manifest is None:
            raise JobNotFound("the revision of this attempt is not there")
        await self._gpus.take_back(job.record.base_model)
        await self._endings.publish(job, manifest)

    async def fail(self, job_id: str, attempt: int, code: str, message: str) -> None:
        """End a job without a revision. Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await self._gpus.take_back(job.record.base_model)
        await self._endings.fail(job, code, message)

    def _begin_run(self, base_model: str, on_end: Callable[[], None]) -> None:
        def end() -> None:
            self._spawn(self._gpus.take_back(base_model))
            on_end()

        self._launch(base_model, end)

    async def _assign(self, job: ActiveJob) -> Assignment | None:
        """Start an attempt; None when the job needs none."""
        record = job.record
        try:
            if record.error is not None:
                await self._endings.fail(job, record.error.code, record.error.message)
                return None
            if (manifest := await self._manifest(record)) is not None:
                await self._endings.publish(job, manifest)
                return None
            if record.is_cancelled:
                await self._endings.cancel(job)
                return None
            is_stalled = record.step <= record.furthest_step
            stalled_attempts = record.stalled_attempts + (record.attempt > 0) if is_stalled else 0
            if stalled_attempts >= self._settings[record.base_model].max_attempts:
                await self._endings.fail(
                    job, "training_failed", "the training failed repeatedly and was given up"
                )
                return None
            model = await self._publisher.model(record.user, record.uid)
            request = await asyncio.to_thread(self._jobs.load_request, record.user, record.id)
            is_first = record.revision is None
            if is_first:
                await self._discard_late_work(record, model.latest_revision + 1)
            await job.update(
                status=JobStatus.RUNNING,
                # Not of `record`: another worker may have been given the job while this one waited.
                attempt=job.record.attempt + 1,
                started=record.started or utc_now(),
                parent_revision=model.revision if is_first else record.parent_revision,
                revision=model.latest_revision + 1 if is_first else record.revision,
                step=0,
                stalled_attempts=stalled_attempts,
                furthest_step=max(record.step, record.furthest_step),
            )
            await job.save()
        except ModelNotFound as error:
            await self._endings.fail(job, error.code, error.message)
            return None
        if record.started is None and job.record.started is not None:
            wait_s = (job.record.started - record.created).total_seconds()
            self._metrics.started(record.base_model, max(wait_s, 0.0))
        return Assignment.of(job.record, model, request)

    async def _discard_late_work(self, record: JobRecord, revision: int) -> None:
        """A worker of a job that was given up may have written this revision after all."""
        if await asyncio.to_thread(self._revisions.manifest, record.uid, revision) is not None:
            await asyncio.to_thread(self._revisions.discard, record.uid, revision)

    async def _manifest(self, record: JobRecord) -> Manifest | None:
        """The manifest that an attempt at this job wrote, if one did."""
        if record.revision is None:
            return None
        manifest = await asyncio.to_thread(self._revisions.manifest, record.uid, record.revision)
        return manifest if manifest is not None and manifest.job == record.id else None

    def _attempt(self, job_id: str, attempt: int) -> ActiveJob:
        job = self._active.get(job_id)
        if job is None or job.record.attempt != attempt or not self._dispatcher.has_taken(job.record):
            raise JobNotFound("this attempt was given up")
        return job

    async def _save_quietly(self, job: ActiveJob) -> None:
        try:
            await job.save_soon()
        except Unavailable:
            logger.warning("progress of job %s is not saved: storage is away", job.record.id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = start_apart(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
