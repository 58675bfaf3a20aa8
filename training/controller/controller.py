"""Accepts trainings: each is durable, runs in its order, and has its effect exactly once.

    submit  ->  bucket (request, record, marker)  ->  queue of the base model  ->  next_assignment
                                                          ^                          |  (a worker asks)
                                                          +-- paused <- look --------+
    done  <-  adapter loaded ahead  <-  swap of models.json  <-  complete  <-  manifest <-+

A worker enters, asks for work and reports back; the controller never calls a worker. Only the worker that
entered last gets work. A job whose turn is over gives way to jobs of other users. Its worker keeps its state,
so it stays the same attempt until that worker is lost. Reports name job and attempt; those of an attempt that
was given up are refused. The manifest in the bucket decides whether a training happened. After a crash the
markers in the bucket name the unfinished jobs; if a job's manifest exists, only bookkeeping is left. Of two
controllers on one bucket, the later one leads, and the other one stands down (controller.succession).
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing

from registry.errors import JobNotFound, ModelInUse, Superseded
from registry.fine_tuning import FineTuning
from registry.jobs import Jobs
from registry.leadership import LOOK_INTERVAL_S, Unopposed
from registry.meter import Meter
from registry.records import JobRecord, JobRequest, JobStatus, ModelRecord
from registry.retry import Retry
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.tasks import BackgroundTasks
from registry.usage import UsageParts
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.base_models import BaseModels
from training.controller.beginnings import Beginnings
from training.controller.checkpoints import Checkpoints
from training.controller.dispatcher import Dispatcher, StartRun
from training.controller.interruptions import Interruptions
from training.controller.job_listing import JobListing
from training.controller.job_products import JobProducts
from training.controller.metrics import NoMetrics, TrainingMetrics
from training.controller.outcomes import Outcomes
from training.controller.publisher import Publisher
from training.controller.recovery import Recovery
from training.controller.redeployment import Redeployment
from training.controller.run_starts import EndRun, RunStarts, Shortage, no_shortage, nothing_ends
from training.controller.shared_gpus import SharedGpus
from training.controller.submission import Submission
from training.controller.succession import Succession
from training.event_line import EventLine
from training.settings import TrainingSettings
from training.types import Controller, Dismissal, Instruction, Order, Place, Standing, StepProgress


class TrainingController(Controller):
    """The controller of all trainings of an instance. Its public coroutines are called through handles.

    A thousand jobs may wait. Work for one job never looks at the others. Only the record of a waiting job is
    in memory; its request stays in the bucket. Everything that touches the bucket raises Unavailable.
    """

    def __init__(
        self,
        store: ObjectStore,
        publisher: Publisher,
        settings: Mapping[str, TrainingSettings],
        start_run: StartRun,
        max_queued_jobs_per_user: int,
        metrics: TrainingMetrics | None = None,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
        retry: Retry | None = None,
        shortage: Shortage = no_shortage,
        end_run: EndRun = nothing_ends,
        leadership: Unopposed | None = None,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        retry, leadership = retry or Retry(), leadership or Unopposed()
        self._jobs = jobs = Jobs(store, leadership.epoch)
        self._revisions = Revisions(store)
        self._publisher = publisher
        self._base_models = base_models = BaseModels(settings)
        self._metrics = metrics or NoMetrics()
        self._meter = meter or Meter(UsageParts(store))
        self._active = active = ActiveJobs()
        self._listing = JobListing(jobs, active, leadership)
        self._gpus = gpus = SharedGpus(publisher, base_models, retry, clock)
        self._dispatcher = dispatcher = Dispatcher(
            base_models, lambda *run: run_starts.begin(*run), self._metrics, clock
        )
        run_starts = RunStarts(dispatcher, active, gpus, start_run, shortage, end_run)
        counted = (active, dispatcher, max_queued_jobs_per_user)
        self._submission = Submission(store, jobs, *counted, self._listing.job, retry)
        products = JobProducts(store, publisher, active, self._submission, retry, leadership)
        ending = (dispatcher, active, self._metrics, self._meter)
        self._outcomes = Outcomes(publisher, self._revisions, *ending, retry, leadership, products)
        self._checkpoints = Checkpoints(publisher, self._revisions, retry, leadership)
        self._beginnings = Beginnings(
            jobs, publisher, self._revisions, base_models, self._outcomes, dispatcher, self._metrics
        )
        self.redeployment = Redeployment(base_models, dispatcher, active, gpus, self._submission, end_run)
        self._interruptions = Interruptions(active, self._listing, dispatcher, self._outcomes)
        recovery = Recovery(jobs, active, dispatcher)
        self._succession = Succession(leadership, recovery, dispatcher, active, look_interval_s, end_run)
        self._background = BackgroundTasks()

    async def recover(self) -> None:
        """Queue the unfinished jobs of the bucket, oldest first. It is called once, before anything else."""
        self._background.start(self._gpus.take_all_back(self._base_models))
        await self._succession.begin()

    async def submit(
        self,
        user: str,
        model: ModelRecord,
        request: JobRequest,
        idempotency_key: str | None = None,
        fine_tuning: FineTuning | None = None,
    ) -> JobRecord:
        """Accept a training. It is durable when this returns. A repeat with the same key gives the same job.

        Raises: QuotaExceeded; ModelNotFound: the model is being deleted; IdempotencyConflict; Superseded.
        """
        async with self._succession.leading():
            return await self._submission.submit(user, model, request, idempotency_key, fine_tuning)

    async def require_room(self, user: str) -> None:
        """Raises: QuotaExceeded."""
        self._submission.require_room(user)

    async def is_training(self, uid: str) -> bool:
        return self._active.has_model(uid)

    async def delete_model(self, user: str, model: ModelRecord) -> None:
        """Delete a model that no unfinished job uses. Raises: ModelInUse, ModelNotFound, Superseded."""
        if await self.is_training(model.uid):
            raise ModelInUse("a training of this model has not ended; wait for it", "model")
        async with self._succession.leading():
            with self._submission.refusing(model.uid):
                await self._publisher.delete(user, model.uid, model.base_model)

    async def job(self, user: str, job_id: str) -> JobRecord:
        """The record of a job. Raises: JobNotFound, also for a job of another user."""
        return await self._listing.job(user, job_id)

    async def list_jobs(
        self, user: str, model: str | None, status: JobStatus | None, after: str | None, limit: int
    ) -> list[JobRecord]:
        """A user's jobs after the job `after`, newest first. Raises: JobNotFound (malformed `after`)."""
        return await self._listing.page(user, model, status, after, limit)

    async def events(
        self, user: str, job_id: str, follow: bool, after: int = 0, for_s: float | None = None
    ) -> AsyncIterator[EventLine]:
        """The lines of a job, as `JobListing.events` describes them. Raises: JobNotFound, Superseded."""
        async with aclosing(self._listing.events(user, job_id, follow, after, for_s)) as lines:
            async for line in lines:
                yield line

    async def cancel(self, user: str, job_id: str) -> JobRecord:
        """End a job, as `Interruptions` describes it. Raises: JobNotFound, Superseded."""
        async with self._succession.leading():
            return await self._interruptions.cancel(user, job_id)

    async def pause(self, user: str, job_id: str) -> JobRecord:
        """Hold a job until its user resumes it. Raises: JobNotFound, Superseded."""
        async with self._succession.leading():
            return await self._interruptions.pause(user, job_id)

    async def resume(self, user: str, job_id: str) -> JobRecord:
        """Let a held job go on. Raises: JobNotFound, Superseded."""
        async with self._succession.leading():
            return await self._interruptions.resume(user, job_id)

    async def enter(self, base_model: str) -> str:
        """Register a worker of the run of `base_model`; returns the name with which it asks for work."""
        await self._gpus.take_back(base_model)
        return await self._dispatcher.enter(base_model)

    async def next_assignment(self, base_model: str, worker: str) -> Order:
        """The next order for the run of `base_model`.

        A run that asks before it has reported has lost its worker: it gets the same job as a new attempt.
        A worker that another one has replaced, or that entered with an earlier controller, gets `leave`.
        """
        if (ended := self._dispatcher.dismissal(base_model, worker)) is not None:
            return Dismissal(job_id=ended)
        while isinstance(taken := await self._dispatcher.take(base_model, worker), JobRecord):
            try:
                order = await self._beginnings.order(taken, self._active.get(taken.id))
            except Superseded:
                await self._succession.stand_down()
                return Instruction.LEAVE
            except BaseException:
                self._dispatcher.give_back(base_model)
                raise
            if order is not None:
                return order
        return taken

    async def borrow_gpu(self, job_id: str, attempt: int) -> None:
        """Lend the GPU of the replicas to a worker that shares it. Returns when the worker may use it.

        Raises: JobNotFound when the attempt was given up; Unavailable.
        """
        base_model = self._attempt(job_id, attempt).record.base_model
        async with self._succession.reporting():
            await self._gpus.lend(base_model)
        try:
            self._attempt(job_id, attempt)
        except JobNotFound:
            if not self._dispatcher.has_work(base_model):  # else a later attempt uses it, and returns it
                await self._gpus.take_back(base_model)
            raise

    async def return_gpu(self, job_id: str, attempt: int) -> None:
        """Take the GPU back from a worker that has left it. Raises: JobNotFound: the attempt was given up."""
        await self._gpus.take_back(self._attempt(job_id, attempt).record.base_model)

    async def look(self, job_id: str, attempt: int, place: Place) -> Standing:
        """Answer a worker that is between two packs. Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await job.mention(type="info", message=f"Step {place.step} of {place.steps}: {place.share:.0%}")
        return self._standing(job)

    async def progress(self, job_id: str, attempt: int, step: StepProgress) -> Standing:
        """Report a step that was made. Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await job.update(step=step.step)
        await job.emit(type="progress", **step.shown())
        self._metrics.stepped(job.record.base_model, step)
        self._background.start(job.save_quietly())
        return self._standing(job)

    async def inform(self, job_id: str, attempt: int, message: str) -> Standing:
        """Tell the followers of a job something. Raises: JobNotFound when the attempt was given up.

        Everything that was reported before is in the bucket when this returns. A worker calls this before
        it writes a state or the revision: the steps before that are not made, and not reported, again.
        """
        job = self._attempt(job_id, attempt)
        async with self._succession.reporting():
            await job.save()
        await job.emit(type="info", message=message)
        return self._standing(job)

    async def keep(self, job_id: str, attempt: int, revision: int) -> Standing:
        """Take up the revision of an epoch, whose manifest was written. The job goes on to its last one.

        Raises: JobNotFound when the attempt was given up.
        """
        job = self._attempt(job_id, attempt)
        async with self._succession.reporting():
            await self._checkpoints.keep(job, revision)
        return self._standing(job)

    async def paused(self, job_id: str, attempt: int) -> None:
        """Report that the worker keeps the state of a paused job. Raises: JobNotFound: it was given up."""
        await self._gpus.take_back(self._attempt(job_id, attempt).record.base_model)
        await self._interruptions.gave_way(self._attempt(job_id, attempt))

    async def stopped(self, job_id: str, attempt: int) -> None:
        """Report that a cancelled job has ended. Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await self._gpus.take_back(job.record.base_model)
        async with self._succession.reporting():
            await self._outcomes.cancel(job)

    async def complete(self, job_id: str, attempt: int) -> None:
        """Make the new revision current, after its manifest was written; then answer those who wait.

        Returns when the next job may start. Raises: JobNotFound when the attempt was given up.
        """
        job = self._attempt(job_id, attempt)
        manifest = await self._beginnings.manifest(job.record)
        if manifest is None:
            raise JobNotFound("the revision of this attempt is not there")
        await self._gpus.take_back(job.record.base_model)
        async with self._succession.reporting():
            await self._outcomes.publish(job, manifest)

    async def fail(self, job_id: str, attempt: int, code: str, message: str) -> None:
        """End a job without a revision. Raises: JobNotFound when the attempt was given up."""
        job = self._attempt(job_id, attempt)
        await self._gpus.take_back(job.record.base_model)
        async with self._succession.reporting():
            await self._outcomes.fail(job, code, message)

    def _standing(self, job: ActiveJob) -> Standing:
        if job.record.is_cancelled:
            return Standing.IS_CANCELLED
        is_gpu_wanted = self._gpus.must_return(job.record.base_model)
        gives_way = is_gpu_wanted or self._dispatcher.must_give_way(job.record)
        return Standing.GIVES_WAY if gives_way else Standing.GOES_ON

    def _attempt(self, job_id: str, attempt: int) -> ActiveJob:
        job = self._active.get(job_id)
        if job is None or job.record.attempt != attempt or not self._dispatcher.has_taken(job.record):
            raise JobNotFound("this attempt was given up")
        return job
