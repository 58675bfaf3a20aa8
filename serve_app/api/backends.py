"""What the routes of an ingress replica work with: the settings, and handles to the other deployments."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from registry.records import JobRecord, KeyRecord, ModelRecord
from registry.store import ObjectStore
from serve_app.api import in_progress
from serve_app.api.auth import Authenticator, Caller
from serve_app.api.base_model_health import BaseModelHealth, asking
from serve_app.api.job_events import followed
from serve_app.api.key_check import CALLER, KeyWatch
from serve_app.api.model_listing import as_lines, base_infos
from serve_app.api.models_cache import ModelsCache
from serve_app.api.places import Places
from serve_app.api.rate_limits import RequestLimit
from serve_app.catalog.cache_leases import Forgotten, ReadModels, Renewal
from serve_app.catalog.references import Resolved, Resolver
from serve_app.settings import Settings
from serve_app.shared_tasks import SharedTasks

PATIENCE_S = 60.0
PAUSE_S = 0.1
STORAGE_TIMEOUT_S = 5.0

T = TypeVar("T")


async def answered(read: Callable[[], Awaitable[T]]) -> T:
    """The answer to a read, even if the replica that was to give it dies: its successor gives the same.

    A call that is made while there is no replica waits for one by itself.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await read()
        except RayActorError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(PAUSE_S)


@dataclass
class Backends:
    """`catalog` is a Catalog, `trainer` a Trainer, `servers` a ModelServer per id of a base model."""

    settings: Settings
    catalog: DeploymentHandle[Any]
    trainer: DeploymentHandle[Any]
    servers: dict[str, DeploymentHandle[Any]]
    store: ObjectStore = field(init=False)
    authenticator: Authenticator = field(init=False)
    key_watch: KeyWatch = field(init=False)
    request_limit: RequestLimit = field(init=False)
    user_models: ModelsCache = field(init=False)
    resolver: Resolver = field(init=False)
    health: dict[str, BaseModelHealth] = field(init=False)
    downloads: Places = field(init=False)

    def __post_init__(self) -> None:
        async def lookup(key_hash: str) -> KeyRecord:
            record: KeyRecord = await answered(lambda: self.catalog.authenticate.remote(key_hash))
            return record

        async def read(user: str, replica: str) -> ReadModels:
            models: ReadModels = await answered(lambda: self.catalog.models.remote(user, replica))
            return models

        async def renew(replica: str, forgotten: Forgotten) -> Renewal:
            renewal: Renewal = await self.catalog.renew.remote(replica, forgotten)
            return renewal

        self.store = ObjectStore(self.settings.storage)
        self.authenticator = Authenticator(lookup)
        self.key_watch = KeyWatch(self.authenticator.recheck)
        self.user_models = ModelsCache(read, renew)
        self.resolver = Resolver(self.settings)
        self.health = {
            base_model: BaseModelHealth(base_model, asking(server))
            for base_model, server in self.servers.items()
        }
        max_downloads = self.settings.limits.max_concurrent_downloads_per_user
        self.downloads = Places(
            max_downloads, f"you have {max_downloads} downloads in progress; wait for one of them"
        )
        self._storage_checks: SharedTasks[None] = SharedTasks()
        self._base_lines = as_lines(base_infos(self.settings))
        self.request_limit = RequestLimit(
            self.settings.limits.max_requests_per_minute_per_user, self.settings.ingress.num_replicas
        )

    async def listing(self, user: str) -> bytes:
        """All models that the user may use as JSON lines: base models, then private ones, oldest first."""
        return self._base_lines + (await self.user_models.models(user)).lines

    async def private_models(self, user: str) -> tuple[ModelRecord, ...]:
        return (await self.user_models.models(user)).models

    async def resolve(self, user: str, ref: str | None) -> Resolved:
        """Nothing, or an empty text, is the default model. Raises: ModelNotFound, RevisionNotFound."""
        return self.resolver.resolve(await self.private_models(user) if ref else (), ref or None)

    async def private_model(self, user: str, ref: str) -> ModelRecord:
        """Raises: ModelNotFound, ModelReadOnly, InvalidRequest."""
        return self.resolver.private_model(await self.private_models(user), ref)

    async def delete_model(self, user: str, ref: str) -> str:
        """The id of the model that is gone. Raises: ModelInUse, and as private_model."""
        model = await self.private_model(user, ref)
        await self.trainer.delete_model.remote(user, model)
        return model.id

    async def is_training(self, model: ModelRecord) -> bool:
        answer: bool = await answered(lambda: self.trainer.is_training.remote(model.uid))
        return answer

    async def job(self, user: str, job_id: str) -> JobRecord:
        """Raises: JobNotFound."""
        record: JobRecord = await answered(lambda: self.trainer.job.remote(user, job_id))
        return record

    async def job_events(self, user: str, job_id: str, follow: bool) -> AsyncGenerator[str, None]:
        """NDJSON lines of a job. A trainer that is replaced meanwhile is asked again. Raises: JobNotFound."""
        events = self.trainer.options(stream=True).events
        async with aclosing(followed(lambda: events.remote(user, job_id, follow))) as lines:
            async for line in lines:
                yield line

    async def server(self, resolved: Resolved) -> DeploymentHandle[Any]:
        """The replicas that answer for a model, preferring those that have its adapter.

        Raises: Unavailable: none of them is well; the request that is being answered ends so also later,
        if none has begun to answer it then.
        """
        await self.health[resolved.base.id].require(in_progress.current.get(None))
        handle = self.servers[resolved.base.id]
        adapter_id = resolved.adapter_id
        return handle.options(multiplexed_model_id=adapter_id) if adapter_id else handle

    async def tokenising_server(self, base_model: str) -> DeploymentHandle[Any]:
        """The replicas that check trainings. Raises: Unavailable: none of them is well."""
        await self.health[base_model].require()
        return self.servers[base_model]

    async def check_storage(self) -> None:
        """One read, for all who ask meanwhile. Raises an error if storage cannot be reached."""

        async def check() -> None:
            await asyncio.wait_for(self.catalog.check_storage.remote(), STORAGE_TIMEOUT_S)

        await self._storage_checks.join("storage", check)()


async def backends(request: Request) -> Backends:
    """Not a plain function: FastAPI would call that in a thread, for every request."""
    found: Backends = request.app.state.backends
    return found


BackendsDependency = Annotated[Backends, Depends(backends)]


async def presumed_caller(request: Request) -> Caller:
    """Where a request changes nothing: its key may still be asked for while the answer is made."""
    caller: Caller = request.scope[CALLER]
    return caller


async def current_caller(request: Request) -> Caller:
    """Where a request changes something: its key is known to be good. Raises: InvalidApiKey, Unavailable."""
    caller = await presumed_caller(request)
    if caller.check is not None:
        await caller.check()
    return caller


async def current_user(request: Request) -> str:
    return (await current_caller(request)).user


async def presumed_user(request: Request) -> str:
    return (await presumed_caller(request)).user


# Documents the scheme in /docs; the door, api.door, asks for the key and gives errors their shape.
bearer = HTTPBearer(auto_error=False, description="An API key of `tiger keys create` or `POST /v1/keys`")
CallerDependency = Annotated[Caller, Depends(current_caller)]
UserDependency = Annotated[str, Depends(current_user)]
PresumedUserDependency = Annotated[str, Depends(presumed_user)]
