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
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Literal, Protocol

from registry.errors import JobNotFound, ModelInUse, ModelNotFound, QuotaExceeded, Unavailable
from registry.jobs import JobIds, Jobs
from registry.records import JobError, JobRecord, JobRequest, JobStatus, Manifest, ModelRecord, utc_now
from registry.revisions import Revisions
from registry.store import ObjectStore
from training.active import ActiveJob
from training.queue import JobQueue
from training.settings import TrainingSettings
from training.types import Assignment, StepProgress

logger = logging.getLogger("ray.serve")

POLL_S = 20.0
RETRY_S = 1.0


class Publisher(Protocol):
    """What the controller needs of the serving side."""

    async def model(self, user: str, uid: str) -> ModelRecord: ...

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord: ...

    async def preload(self, base_model: str, adapter_id: str) -> None: ...

    async def delete(self, user: str, uid: str, base_model: str) -> None: ...


class TrainingController:
    """One per installation. Its public coroutines are called through Ray handles.

    `start_run(base_model, on_end)` starts the resident run of a base model; the run ends by itself, when
    told to leave or when it breaks, and then `on_end` is called on this event loop.

    Raises (everything that touches the bucket): Unavailable.
    """

    def __init__(
        self,
        store: ObjectStore,
        publisher: Publisher,
        settings: dict[str, TrainingSettings],
        start_run: Callable[[str, Callable[[], None]], None],
        max_queued_jobs_per_user: int,
    ) -> None:
        self._jobs = Jobs(store)
        self._revisions = Revisions(store)
        self._publisher = publisher
        self._settings = settings
        self._start_run = start_run
        self._max_queued = max_queued_jobs_per_user
        self._ids = JobIds()
        self._active: dict[str, ActiveJob] = {}
        self._queues = {base_model: JobQueue() for base_model in settings}
        self._assigned: dict[str, str] = {}
        self._runs: set[str] = set()
        self._idle_since: dict[str, float] = {}
        self._deleting: set[str] = set()
        self._work = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Take up what the bucket says is unfinished, oldest first. Called once, before anything else."""
        for record in await asyncio.to_thread(self._jobs.active):
            if record.base_model not in self._queues:
                logger.error("job %s waits for base model %s, not configured", record.id, record.base_model)
                continue
            events = await asyncio.to_thread(self._jobs.load_events, record.user, record.id)
            job = ActiveJob(self._jobs, record, events)
            self._active[record.id] = job
            await job.emit(type="info", message="Taken up again after a restart")
            await self._enqueue(job)

    async def submit(self, user: str, model: ModelRecord, request: JobRequest) -> JobRecord:
        """Accept a training; once this returns it is durable.

        Raises: QuotaExceeded, ModelNotFound (the model is being deleted).
        """
        if sum(job.record.user == user for job in self._active.values()) >= self._max_queued:
            raise QuotaExceeded(f"you have {self._max_queued} unfinished trainings; wait for one to end")
        if model.uid in self._deleting:
            raise ModelNotFound("there is no such model", "model")
        record = JobRecord(
            id=self._ids.generate(),
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
        await self._enqueue(job)
        return record

    async def is_training(self, uid: str) -> bool:
        return any(job.record.uid == uid for job in self._active.values())

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
        for line in await asyncio.to_thread(self._jobs.load_events, user, job_id):
            yield line

    async def next_assignment(self, base_model: str) -> Assignment | Literal["wait", "leave"]:
        """The next job for the run of `base_model`; `wait`: ask again; `leave`: end the run.

        A run that asks before it has reported has lost its worker: it gets the same job as a new attempt.
        """
        self._give_back(base_model)
        poll_deadline = time.monotonic() + POLL_S
        while True:
            job_id = self._queues[base_model].take()
            if job_id is not None:
                assignment = await self._assign(self._active[job_id])
                if assignment is not None:
                    return assignment
                continue
            now = time.monotonic()
            idle_since = self._idle_since.setdefault(base_model, now)
            leave_at = idle_since + self._settings[base_model].idle_timeout_s
            if now >= leave_at:
                return "leave"
            if now >= poll_deadline:
                return "wait"
            await self._wait_for_work(base_model, min(leave_at, poll_deadline) - now)

    async def progress(self, job_id: str, attempt: int, step: StepProgress) -> None:
        """Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await job.update(step=step.step)
        await job.emit(type="progress", **step.model_dump())
        self._spawn(self._save_quietly(job))

    async def inform(self, job_id: str, attempt: int, message: str) -> None:
        """Raises: JobNotFound when the attempt was given up."""
        await self._attempt(job_id, attempt).emit(type="info", message=message)

    async def complete(self, job_id: str, attempt: int) -> None:
        """The manifest is written: make the revision current, then answer those who wait.

        Returns when the next job may start. Raises: JobNotFound when the attempt was given up.
        """
        job = self._attempt(job_id, attempt)
        manifest = await self._manifest(job.record)
        if manifest is None:
            raise JobNotFound("the revision of this attempt is not there")
        await self._publish(job, manifest)

    async def fail(self, job_id: str, attempt: int, code: str, message: str) -> None:
        """End a job without a revision. Raises: JobNotFound when the attempt was given up."""
        await self._end_failed(self._attempt(job_id, attempt), code, message)

    async def _assign(self, job: ActiveJob) -> Assignment | None:
        """Start an attempt; None when the job needs none."""
        record = job.record
        try:
            if (manifest := await self._manifest(record)) is not None:
                await self._publish(job, manifest)
                return None
            if record.attempt >= self._settings[record.base_model].max_attempts:
                await self._end_failed(
                    job, "training_failed", "the training failed repeatedly and was given up"
                )
                return None
            model = await self._publisher.model(record.user, record.uid)
            request = await asyncio.to_thread(self._jobs.load_request, record.user, record.id)
            is_first = record.revision is None
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
            await self._end_failed(job, error.code, error.message)
            return None
        except BaseException:
            self._queues[record.base_model].put_first(record.user, record.id)
            raise
        self._assigned[record.base_model] = record.id
        self._idle_since.pop(record.base_model, None)
        return _assignment(job.record, model, request)

    async def _publish(self, job: ActiveJob, manifest: Manifest) -> None:
        """Catalogue swap, then the rest beside the next job. Storage that is away is waited for."""
        record = job.record
        job.is_published = True
        if self._assigned.get(record.base_model) == record.id:
            del self._assigned[record.base_model]
        await job.emit(type="info", message=f"Publishing revision {manifest.revision}")
        while True:
            try:
                model = await self._publisher.publish(record.user, record.uid, manifest.revision)
                break
            except Unavailable:
                await asyncio.sleep(RETRY_S)
        self._spawn(self._finish(job, manifest, model))

    async def _finish(self, job: ActiveJob, manifest: Manifest, model: ModelRecord) -> None:
        record = job.record
        adapter_id = model.adapter_id(manifest.revision)
        assert adapter_id is not None
        try:
            await self._publisher.preload(record.base_model, adapter_id)
        except Exception:
            # The revision is current: the first request will load it.
            logger.warning("adapter %s could not be loaded ahead", adapter_id, exc_info=True)
        metrics = dict(manifest.metrics)
        tokens, duration_s = int(metrics.pop("trained_tokens", 0)), metrics.pop("duration_s", 0.0)
        await job.emit(
            type="stop",
            stop_reason="completed",
            job=record.id,
            model=record.model,
            revision=manifest.revision,
            metrics=metrics,
            usage={"trained_tokens": tokens, "duration": duration_s},
        )
        await self._end(
            job,
            status=JobStatus.SUCCEEDED,
            metrics=metrics,
            trained_tokens=tokens,
            duration_s=duration_s,
            step=record.steps,
        )

    async def _end_failed(self, job: ActiveJob, code: str, message: str) -> None:
        error = JobError(code=code, message=message)
        self._assigned.pop(job.record.base_model, None)
        detail = {"type": "server_error", "code": code, "message": message, "param": None}
        await job.emit(type="error", error=detail)
        self._spawn(self._end(job, status=JobStatus.FAILED, error=error))

    async def _end(self, job: ActiveJob, **changes: Any) -> None:
        """Answer those who wait, and write the end until storage has it."""
        await job.update(finished=utc_now(), **changes)
        while True:
            try:
                await job.save()
                break
            except Unavailable:
                await asyncio.sleep(RETRY_S)
        del self._active[job.record.id]

    async def _manifest(self, record: JobRecord) -> Manifest | None:
        """The manifest that an attempt at this job wrote, if one did."""
        if record.revision is None:
            return None
        manifest = await asyncio.to_thread(self._revisions.manifest, record.uid, record.revision)
        return manifest if manifest is not None and manifest.job == record.id else None

    def _attempt(self, job_id: str, attempt: int) -> ActiveJob:
        job = self._active.get(job_id)
        if (
            job is None
            or job.record.attempt != attempt
            or self._assigned.get(job.record.base_model) != job_id
        ):
            raise JobNotFound("this attempt was given up")
        return job

    def _give_back(self, base_model: str) -> None:
        lost = self._active.get(self._assigned.pop(base_model, ""))
        if lost is not None:
            self._queues[base_model].put_first(lost.record.user, lost.record.id)

    async def _enqueue(self, job: ActiveJob) -> None:
        base_model = job.record.base_model
        self._queues[base_model].put(job.record.user, job.record.id)
        self._ensure_run(base_model)
        async with self._work:
            self._work.notify_all()

    def _ensure_run(self, base_model: str) -> None:
        if base_model not in self._runs:
            self._runs.add(base_model)
            self._idle_since.pop(base_model, None)
            self._start_run(base_model, lambda: self._on_run_end(base_model))

    def _on_run_end(self, base_model: str) -> None:
        self._runs.discard(base_model)
        self._give_back(base_model)
        if len(self._queues[base_model]):
            # Not at once: a run that cannot start must not take the machine with it.
            asyncio.get_running_loop().call_later(RETRY_S, self._ensure_run, base_model)

    async def _wait_for_work(self, base_model: str, timeout_s: float) -> None:
        queue = self._queues[base_model]
        async with self._work:
            try:
                await asyncio.wait_for(self._work.wait_for(lambda: len(queue) > 0), timeout_s)
            except TimeoutError:
                return

    async def _save_quietly(self, job: ActiveJob) -> None:
        try:
            await job.save_now_and_then()
        except Unavailable:
            logger.warning("progress of job %s is not saved: storage is away", job.record.id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _assignment(record: JobRecord, model: ModelRecord, request: JobRequest) -> Assignment:
    assert record.parent_revision is not None and record.revision is not None
    return Assignment(
        job_id=record.id,
        attempt=record.attempt,
        user=record.user,
        uid=record.uid,
        base_model=record.base_model,
        parent_revision=record.parent_revision,
        has_parent_adapter=model.adapter_id(record.parent_revision) is not None,
        revision=record.revision,
        rank=model.rank,
        alpha=model.alpha,
        dropout=model.dropout,
        request=request,
    )
