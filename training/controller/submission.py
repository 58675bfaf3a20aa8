"""Accepts trainings: within the user's quota, durable before the answer, once for each Idempotency-Key.

submit  ->  quota  ->  bucket (request, record, marker)  ->  queue of the base model
submit with a key  ->  reservation: the same id for the same key  ->  the job of that id, or as above
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from registry.errors import NO_SUCH_MODEL, JobNotFound, ModelNotFound, QuotaExceeded, Unavailable
from registry.fine_tuning import FineTuning
from registry.jobs import Jobs
from registry.records import JobRecord, JobRequest, ModelRecord, utc_now
from registry.reservations import Reservations
from registry.retry import Retry
from registry.store import ObjectStore
from registry.tasks import BackgroundTasks
from training.controller.active_jobs import ActiveJob, ActiveJobs
from training.controller.dispatcher import Dispatcher

T = TypeVar("T")


class Submission:
    """Accepts the trainings of a controller.

    `find(user, job_id)` returns the record of a job that was accepted, or raises JobNotFound.
    """

    def __init__(
        self,
        store: ObjectStore,
        jobs: Jobs,
        active: ActiveJobs,
        dispatcher: Dispatcher,
        max_queued_jobs_per_user: int,
        find: Callable[[str, str], Awaitable[JobRecord]],
        retry: Retry,
    ) -> None:
        self._jobs = jobs
        self._reservations = Reservations(store)
        self._active = active
        self._dispatcher = dispatcher
        self.max_queued_jobs_per_user = max_queued_jobs_per_user
        self._find = find
        self._retry = retry
        self._ids = jobs.ids
        # Requests with the same key are accepted one after another: the second finds the job of the first.
        self._keyed: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._refused: set[str] = set()
        self._uncertain: dict[str, asyncio.Task[None]] = {}
        self._background = BackgroundTasks()

    @contextmanager
    def refusing(self, uid: str) -> Iterator[None]:
        """Accept no training of this model during the block, because the model is being deleted."""
        self._refused.add(uid)
        try:
            yield
        finally:
            self._refused.discard(uid)

    def require_room(self, user: str) -> None:
        """Raises: QuotaExceeded: the user has as many unfinished trainings as they may have."""
        if self._active.num_of_user(user) >= (most := self.max_queued_jobs_per_user):
            raise QuotaExceeded(f"you have {most} unfinished trainings; wait for one to end")

    async def submit(
        self,
        user: str,
        model: ModelRecord,
        request: JobRequest,
        idempotency_key: str | None,
        fine_tuning: FineTuning | None = None,
    ) -> JobRecord:
        """Accept a training. Raises: QuotaExceeded, ModelNotFound, IdempotencyConflict, Unavailable."""
        if idempotency_key is None:
            return await self._accept(user, model, request, fine_tuning, self._ids.generate())
        return await self._to_its_end(self._submit_once(user, model, request, fine_tuning, idempotency_key))

    async def _submit_once(
        self, user: str, model: ModelRecord, request: JobRequest, fine_tuning: FineTuning | None, key: str
    ) -> JobRecord:
        shown = "" if fine_tuning is None else fine_tuning.model_dump_json()
        body = (model.uid + request.model_dump_json() + shown).encode()
        reserve, new_id = self._reservations.reserve, self._ids.generate()
        async with self._keyed.setdefault((user, key), asyncio.Lock()):
            reserved = await asyncio.to_thread(reserve, user, "train", key, body, new_id)
            try:
                return await self._find(user, reserved.id)
            except JobNotFound:
                return await self._accept(user, model, request, fine_tuning, reserved.id)

    async def _accept(
        self, user: str, model: ModelRecord, request: JobRequest, fine_tuning: FineTuning | None, job_id: str
    ) -> JobRecord:
        self.require_room(user)
        if model.uid in self._refused:
            raise ModelNotFound(NO_SUCH_MODEL, "model")
        record = JobRecord(
            id=job_id,
            user=user,
            uid=model.uid,
            model=model.id,
            base_model=model.base_model,
            created=utc_now(),
            steps=request.hyperparameters.learning_steps,
            fine_tuning=fine_tuning,
        )
        if (uncertain := self._uncertain.pop(job_id, None)) is not None:
            uncertain.cancel()
        self._active.expect(record)
        return await self._to_its_end(self._enqueue(record, request))

    async def _enqueue(self, record: JobRecord, request: JobRequest) -> JobRecord:
        try:
            accepted = await asyncio.to_thread(self._jobs.accept, record, request)
        except Unavailable:
            self._uncertain[record.id] = self._background.start(self._find_out(record))
            raise
        except BaseException:
            self._active.forget(record)
            raise
        if accepted.record.status.is_terminal:  # a former Trainer accepted it with the same key, and ended it
            self._active.forget(record)
        else:
            await self._begin(accepted.record, accepted.events)
        return accepted.record

    async def _find_out(self, record: JobRecord) -> None:
        """Find out if the last write happened although its answer was lost. If so, the job is accepted."""
        load = partial(asyncio.to_thread, self._jobs.load, record.user, record.id)
        try:
            await self._retry.call_async(load)
        except JobNotFound:
            self._active.forget(record)
        else:
            await self._begin(record)
        del self._uncertain[record.id]

    async def _begin(self, record: JobRecord, events: list[str] | None = None) -> None:
        job = ActiveJob(self._jobs, record, events)
        self._active.add(job)
        await job.emit(type="info", message="Queued")
        await self._dispatcher.put(record)

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Finish `work` even if the client goes away: half of it would be a durable job in no queue."""
        return await asyncio.shield(self._background.start(work))
