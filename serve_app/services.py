"""What the routes of an ingress replica work with: the settings, and handles to the other deployments."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from registry.records import JobRecord, ModelRecord
from registry.store import ObjectStore
from serve_app.auth import Authenticator
from serve_app.catalog import Resolved
from serve_app.settings import Settings
from training.active import is_last


@dataclass
class Services:
    """`catalog` is a Catalog, `trainer` a Trainer, `servers` a ModelServer per id of a base model."""

    settings: Settings
    catalog: DeploymentHandle[Any]
    trainer: DeploymentHandle[Any]
    servers: dict[str, DeploymentHandle[Any]]
    store: ObjectStore = field(init=False)
    authenticator: Authenticator = field(init=False)

    def __post_init__(self) -> None:
        async def lookup(key_hash: str) -> str:
            user: str = await self.catalog.user_of.remote(key_hash)
            return user

        self.store = ObjectStore(self.settings.storage)
        self.authenticator = Authenticator(lookup)

    async def resolve(self, user: str, ref: str | None) -> Resolved:
        """Raises: ModelNotFound, RevisionNotFound."""
        resolved: Resolved = await self.catalog.resolve.remote(user, ref)
        return resolved

    async def private_model(self, user: str, ref: str) -> ModelRecord:
        """Raises: ModelNotFound, ModelReadOnly, InvalidRequest."""
        model: ModelRecord = await self.catalog.private_model.remote(user, ref)
        return model

    async def is_training(self, model: ModelRecord) -> bool:
        answer: bool = await self.trainer.is_training.remote(model.uid)
        return answer

    async def job(self, user: str, job_id: str) -> JobRecord:
        """Raises: JobNotFound."""
        record: JobRecord = await self.trainer.job.remote(user, job_id)
        return record

    async def job_events(self, user: str, job_id: str, follow: bool) -> AsyncIterator[str]:
        """NDJSON lines of a job. A trainer that is replaced meanwhile is asked again. Raises: JobNotFound."""
        num_seen = 0
        while True:
            lines = self.trainer.options(stream=True).events.remote(user, job_id, follow)
            try:
                position = 0
                async for line in lines:
                    position += 1
                    # The events that a trainer takes up again may be fewer than those already passed on.
                    if position > num_seen or is_last(line):
                        num_seen = max(num_seen, position)
                        yield line
                    if is_last(line):
                        return
                return
            except RayActorError:
                continue
            finally:
                lines.cancel()

    def server(self, resolved: Resolved) -> DeploymentHandle[Any]:
        """The replicas that answer for a model, preferring those that have its adapter."""
        handle = self.servers[resolved.base.id]
        adapter_id = resolved.adapter_id
        return handle.options(multiplexed_model_id=adapter_id) if adapter_id else handle


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesDependency = Annotated[Services, Depends(services)]


async def current_user(request: Request, services: ServicesDependency) -> str:
    """Raises: InvalidApiKey."""
    return await services.authenticator.user(request.headers.get("authorization"))


# Documents the scheme in /docs; `current_user` does the work and gives the errors their shape.
bearer = HTTPBearer(auto_error=False, description="An API key made with `tiger keys create`")
UserDependency = Annotated[str, Depends(current_user)]
