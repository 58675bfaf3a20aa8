"""Accepted trainings: durable, in order, each exactly once.

    submit  ->  bucket (request, record, marker)  ->  queue of the base model  ->  next_assignment
                                                                                     |  (a worker asks)
    done  <-  adapter loaded ahead  <-  catalogue swap  <-  complete  <-  manifest <-+

A worker asks for work and reports back; the controller never calls a worker. Reports are fenced by
(job, attempt): those of an attempt that was given up are refused. The manifest in the bucket decides
whether a training happened. After a crash the markers in the bucket say what is left to do, and a job
whose revision has its manifest only has its bookkeeping finished.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Literal

from registry.errors import JobNotFound, ModelInUse, ModelNotFound, QuotaExceeded, Unavailable
from registry.jobs import JobIds, Jobs
from registry.records import JobRecord, JobRequest, JobStatus, Manifest, ModelRecord, utc_now
from registry.reservations import Reservations
from registry.revisions import Revisions
from registry.store import ObjectStore
from training.active import ActiveJob
from training.dispatcher import Dispatcher, StartRun
from training.endings import Endings, Publisher
from training.settings import TrainingSettings
from training.types import Assignment, StepProgress

logger = logging.getLogger("ray.serve")


class TrainingController:
    """One per installation. Its public coroutines are called through Ray handles.

    Raises (everything that touches the bucket): Unavailable.
    """

    def __init__(
        self,
        store: ObjectStore,
        publisher: Publisher,
        settings: dict[str, TrainingSettings],
        start_run: StartRun,
        max_queued_jobs_per_user: int,
    ) -> None:
        self._jobs = Jobs(store)
        self._revisions = Revisions(store)
        self._reservations = Reservations(store)
        self._publisher = publisher
        self._settings = settings
        self._dispatcher = Dispatcher(settings, start_run)
        self._endings = Endings(publisher, self._dispatcher, self._forget)
        self._max_queued = max_queued_jobs_per_user
        self._ids = JobIds()
        self._active: dict[str, ActiveJob] = {}
        # Keyed requests are accepted one by one: of two with one key, the second finds the job of the first.
        self._keyed = asyncio.Lock()
        self._deleting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Take up what the bucket says is unfinished, oldest first. Called once, before anything else."""
        for record in await asyncio.to_thread(self._jobs.active):
            if not self._dispatcher.serves(record.base_model):
                logger.error("job %s waits for base model %s, not configured", record.id, record.base_model)
                continue
            events = await asyncio.to_thread(self._jobs.load_events, record.user, record.id)
            job = ActiveJob(self._jobs, record, events)
            self._active[record.id] = job
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
        if idempotency_key is None:
            return await self._accept(user, model, request, self._ids.generate())
        body = (model.uid + request.model_dump_json()).encode()
        reserve, new_id = self._reservations.reserve, self._ids.generate()
        async with self._keyed:
            reserved = await asyncio.to_thread(reserve, user, "train", idempotency_key, body, new_id)
            try:
                return await self.job(user, reserved.id)
            except JobNotFound:
                return await self._accept(user, model, request, reserved.id)

    async def _accept(self, user: str, model: ModelRecord, request: JobRequest, job_id: str) -> JobRecord:
        if sum(job.record.user == user for job in self._unfinished()) >= self._max_queued:
            raise QuotaExceeded(f"you have {self._max_queued} unfinished trainings; wait for one to end")
        if model.uid in self._deleting:
            raise ModelNotFound("there is no such model", "model")
        record = JobRecord(
            id=job_id,
            user=user,
            uid=model.uid,
            model=model.id,
            base_model=model.base_model,
            created=utc_now(),
            steps=request.hyperparameters.learning_steps,
        )
        job = self._active[record.id] = ActiveJob(self._jobs, record)
        try:
            await asyncio.to_thread(self._jobs.accept, record, request)
        except BaseException:
            del self._active[record.id]
            raise
        await job.emit(type="info", message="Queued")
        await self._dispatcher.put(record)
        return record

    async def is_training(self, uid: str) -> bool:
        return any(job.record.uid == uid for job in self._unfinished())

    async def delete_model(self, user: str, model: ModelRecord) -> None:
        """Delete a model that no unfinished job uses. Raises: ModelInUse, ModelNotFound."""
        if await self.is_training(model.uid):
            raise ModelInUse("a training of this model has not ended; wait for it", "model")
        self._deleting.add(model.uid)
        try:
            await self._publisher.delete(user, model.uid, model.base_model)
        finally:
            self._deleting.discard(model.uid)

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
            page = await asyncio.to_thread(self._jobs.page, user, after, limit)
            records = [self._active[r.id].record if r.id in self._active else r for r in page]
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

    async def next_assignment(self, base_model: str) -> Assignment | Literal["wait", "leave"]:
        """The next job for the run of `base_model`; `wait`: ask again; `leave`: end the run.

        A run that asks before it has reported has lost its worker: it gets the same job as a new attempt.
        """
        while (job_id := await self._dispatcher.take(base_model)) in self._active:
            try:
                assignment = await self._assign(self._active[job_id])
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
        self._spawn(self._save_quietly(job))
        return job.record.is_cancelled

    async def inform(self, job_id: str, attempt: int, message: str) -> bool:
        """Whether the job was cancelled. Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await job.emit(type="info", message=message)
        return job.record.is_cancelled

    async def stopped(self, job_id: str, attempt: int) -> None:
        """The worker ended a cancelled job. Raises: JobNotFound when the attempt was given up."""
        await self._endings.cancel(self._attempt(job_id, attempt))

    async def complete(self, job_id: str, attempt: int) -> None:
        """The manifest is written: make the revision current, then answer those who wait.

        Returns when the next job may start. Raises: JobNotFound when the attempt was given up.
        """
        job = self._attempt(job_id, attempt)
        manifest = await self._manifest(job.record)
        if manifest is None:
            raise JobNotFound("the revision of this attempt is not there")
        await self._endings.publish(job, manifest)

    async def fail(self, job_id: str, attempt: int, code: str, message: str) -> None:
        """End a job without a revision. Raises: JobNotFound when the attempt was given up."""
        await self._endings.fail(self._attempt(job_id, attempt), code, message)

    async def _assign(self, job: ActiveJob) -> Assignment | None:
        """Start an attempt; None when the job needs none."""
        record = job.record
        try:
            if (manifest := await self._manifest(record)) is not None:
                await self._endings.publish(job, manifest)
                return None
            if record.is_cancelled:
                await self._endings.cancel(job)
                return None
            if record.attempt >= self._settings[record.base_model].max_attempts:
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
                attempt=record.attempt + 1,
                started=record.started or utc_now(),
                parent_revision=model.revision if is_first else record.parent_revision,
                revision=model.latest_revision + 1 if is_first else record.revision,
                step=0,
            )
            await job.save()
        except ModelNotFound as error:
            await self._endings.fail(job, error.code, error.message)
            return None
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

    def _forget(self, job: ActiveJob) -> None:
        del self._active[job.record.id]

    def _unfinished(self) -> Iterator[ActiveJob]:
        """Without those that have ended and are only being written down."""
        return (job for job in self._active.values() if not job.record.status.is_terminal)

    def _attempt(self, job_id: str, attempt: int) -> ActiveJob:
        job = self._active.get(job_id)
        if job is None or job.record.attempt != attempt or not self._dispatcher.has_taken(job.record):
            raise JobNotFound("this attempt was given up")
        return job

    async def _save_quietly(self, job: ActiveJob) -> None:
        try:
            await job.save_now_and_then()
        except Unavailable:
            logger.warning("progress of job %s is not saved: storage is away", job.record.id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
