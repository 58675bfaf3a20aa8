"""The Trainer for the ingress. Reads are repeated if the replica dies before it answers; changes are not."""

from collections.abc import AsyncGenerator
from typing import Any

from ray.serve.handle import DeploymentHandle

from registry.deployment_calls import DeploymentCalls
from registry.fine_tuning import FineTuning
from registry.records import JobRecord, JobRequest, JobStatus, ModelRecord
from serve_app.api.job_events import followed
from serve_app.repeated_reads import answered
from training.controller.controller import TrainingController
from training.controller.dispatcher import POLL_S


class TrainerClient:
    """Calls the Trainer. The methods and their errors are those of `TrainingController`.

    Raises (all): errors of Ray Serve, which `remote_errors.as_tiger_error` turns into our own.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._trainer: DeploymentCalls[TrainingController] = DeploymentCalls(handle)

    async def submit(
        self,
        user: str,
        model: ModelRecord,
        request: JobRequest,
        idempotency_key: str | None,
        fine_tuning: FineTuning | None = None,
    ) -> JobRecord:
        submit = TrainingController.submit
        return await self._trainer.call(submit, user, model, request, idempotency_key, fine_tuning)

    async def require_room(self, user: str) -> None:
        await answered(lambda: self._trainer.call(TrainingController.require_room, user))

    async def is_training(self, uid: str) -> bool:
        return await answered(lambda: self._trainer.call(TrainingController.is_training, uid))

    async def delete_model(self, user: str, model: ModelRecord) -> None:
        await self._trainer.call(TrainingController.delete_model, user, model)

    async def job(self, user: str, job_id: str) -> JobRecord:
        return await answered(lambda: self._trainer.call(TrainingController.job, user, job_id))

    async def list_jobs(
        self, user: str, model: str | None, status: JobStatus | None, after: str | None, limit: int
    ) -> list[JobRecord]:
        list_jobs = TrainingController.list_jobs
        return await answered(lambda: self._trainer.call(list_jobs, user, model, status, after, limit))

    async def cancel(self, user: str, job_id: str) -> JobRecord:
        return await self._trainer.call(TrainingController.cancel, user, job_id)

    async def pause(self, user: str, job_id: str) -> JobRecord:
        return await self._trainer.call(TrainingController.pause, user, job_id)

    async def resume(self, user: str, job_id: str) -> JobRecord:
        return await self._trainer.call(TrainingController.resume, user, job_id)

    def events(self, user: str, job_id: str, follow: bool) -> AsyncGenerator[str, None]:
        """Yields a job's events as NDJSON lines, even if the Trainer is replaced.

        One call follows a job only for as long as a worker waits. A longer one would keep the Trainer from a
        clean shutdown, in which it saves the usage.

        Raises: JobNotFound, Superseded, Unavailable.
        """
        events = TrainingController.events
        return followed(lambda after: self._trainer.stream(events, user, job_id, follow, after, POLL_S))
