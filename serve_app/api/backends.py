"""The settings, clients and caches that the routes of an ingress replica use."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from registry.audit import Action, AuditLog
from registry.records import ModelRecord
from registry.store import ObjectStore
from registry.tasks import BackgroundTasks
from registry.usage import UsageParts
from serve_app.api import in_progress
from serve_app.api.audit import AuditedRequest, AuditTrail
from serve_app.api.auth import Authenticator, Caller
from serve_app.api.base_model_health import BaseModelHealth, asking
from serve_app.api.base_model_problems import BaseModelProblems
from serve_app.api.cold_start import ColdStart, Startable
from serve_app.api.file_checks import ChecksElsewhere
from serve_app.api.file_uploads import FileUploads
from serve_app.api.fine_tuning.file_reading import FilesElsewhere
from serve_app.api.key_check import CALLER, KeyWatch
from serve_app.api.model_listing import as_lines, base_infos
from serve_app.api.models_cache import ModelsCache
from serve_app.api.places import Places
from serve_app.api.rate_limits import RequestLimit
from serve_app.api.token_budgets import TokenBudgets
from serve_app.api.trainer_client import TrainerClient
from serve_app.catalog.client import CatalogClient
from serve_app.catalog.references import Resolved, Resolver, not_deployed
from serve_app.model_server.client import ModelClient
from serve_app.scaling_settings import BaseModelAutoscaling
from serve_app.settings import Settings
from serve_app.shared_tasks import SharedTasks

STORAGE_TIMEOUT_S = 5.0
MAX_JOBS_WITH_FILES_IN_MEMORY = 16
"""At one ingress replica. Two users with as many at once as they may have by default fill it."""


@dataclass
class Backends:
    """The settings and clients that the routes use, and the state of this ingress replica.

    `connect` returns the replicas of a base model by its id. They need not exist yet.
    """

    settings: Settings
    catalog: CatalogClient
    trainer: TrainerClient
    connect: Callable[[str], ModelClient]
    problems: BaseModelProblems = field(default_factory=BaseModelProblems)
    startable: Startable = field(default_factory=Startable)
    has_refused_settings: bool = field(init=False, default=False)
    """True if the settings that were deployed last are not valid with the variables of this node."""
    servers: dict[str, ModelClient] = field(init=False, default_factory=dict)
    store: ObjectStore = field(init=False)
    audit: AuditTrail = field(init=False)
    token_budgets: TokenBudgets = field(init=False)
    authenticator: Authenticator = field(init=False)
    key_watch: KeyWatch = field(init=False)
    request_limit: RequestLimit = field(init=False)
    user_models: ModelsCache = field(init=False)
    resolver: Resolver = field(init=False)
    health: dict[str, BaseModelHealth] = field(init=False, default_factory=dict)
    downloads: Places = field(init=False)
    uploads: FileUploads = field(init=False)
    read_files: FilesElsewhere = field(init=False)
    job_files_at_once: Places = field(init=False)
    room_for_job_files: asyncio.Semaphore = field(
        init=False, default_factory=lambda: asyncio.Semaphore(MAX_JOBS_WITH_FILES_IN_MEMORY)
    )
    """Fine-tuning jobs whose files are in memory, of all users. The others wait for their turn."""
    accepting: BackgroundTasks = field(init=False, default_factory=BackgroundTasks)
    """The acceptances of fine-tuning jobs, which go on if the client goes away."""

    def __post_init__(self) -> None:
        self.store = ObjectStore(self.settings.storage)
        self.audit = AuditTrail(AuditLog(self.store))
        self.token_budgets = TokenBudgets(
            lambda: self.settings.limits,
            UsageParts(self.store).sums,
            lambda: self.settings.usage.flush_interval_s,
        )
        self.authenticator = Authenticator(self.catalog.authenticate)
        self.key_watch = KeyWatch(self.authenticator.recheck)
        self.user_models = ModelsCache(self.catalog.models, self.catalog.renew)
        self.resolver = Resolver(self.settings)
        self.downloads = Places(
            lambda: self.settings.limits.max_concurrent_downloads_per_user,
            "you have {limit} downloads in progress; wait for one of them",
        )
        self.uploads = FileUploads(self.store, self.catalog, ChecksElsewhere(), lambda: self.settings)
        self.read_files = FilesElsewhere(self.store)
        self.job_files_at_once = Places(
            lambda: self.settings.limits.max_waiting_length_checks_per_user,
            "the files of {limit} jobs of yours are being read; wait for one of them",
        )
        self._storage_checks: SharedTasks[None] = SharedTasks()
        self.request_limit = RequestLimit(None, 1)
        self.apply(self.settings)

    def apply(self, settings: Settings) -> None:
        """Changes the settings. Requests in progress, counts and caches stay.

        A base model that is not among them any more ends its requests whose answers have not begun.
        """
        self.settings = self.resolver.settings = settings
        self.base_lines = as_lines(base_infos(settings))
        limits = settings.limits
        self.request_limit.set_limit(limits.max_requests_per_minute_per_user, settings.ingress.most_replicas)
        base_models = {model.id for model in settings.models}
        for base_model in self.servers.keys() - base_models:
            del self.servers[base_model]
            self.health.pop(base_model).close(not_deployed(base_model))
        for base_model in base_models - self.servers.keys():
            server = self.servers[base_model] = self.connect(base_model)
            self.health[base_model] = self._health_of(base_model, server)

    def _health_of(self, base_model: str, server: ModelClient) -> BaseModelHealth:
        """Returns the health of a base model. It follows later changes of the settings."""

        def autoscaling() -> BaseModelAutoscaling:
            # A base model that was just removed may still be asked for its health.
            found = (model.serving.autoscaling for model in self.settings.models if model.id == base_model)
            return next(found, None) or BaseModelAutoscaling()

        async def may_sleep() -> bool | None:
            return autoscaling().may_sleep and await self.startable.has(base_model)

        start = ColdStart(base_model, server.wait_for_one, lambda: autoscaling().cold_start_timeout_s)
        return BaseModelHealth(base_model, asking(server, may_sleep=may_sleep), start=start)

    async def ask_base_models(self) -> None:
        """Asks all base models for their health now."""
        await asyncio.gather(*(health.ask_now() for health in self.health.values()))

    def watch_base_models(self) -> None:
        """Starts to ask all base models for their health again and again."""
        for health in self.health.values():
            health.watch()

    async def listing(self, user: str) -> bytes:
        """Returns the models of a user as JSON lines: base models, then private ones, oldest first."""
        return self.base_lines + (await self.user_models.models(user)).lines

    async def private_models(self, user: str) -> tuple[ModelRecord, ...]:
        return (await self.user_models.models(user)).models

    async def resolve(self, user: str, ref: str | None) -> Resolved:
        """Finds the model of a reference. None or an empty text means the default model.

        Raises: ModelNotFound, RevisionNotFound.
        """
        return self.resolver.resolve(await self.private_models(user) if ref else (), ref or None)

    async def private_model(self, user: str, ref: str) -> ModelRecord:
        """Finds a private model. Raises: ModelNotFound, ModelReadOnly, InvalidRequest."""
        return self.resolver.private_model(await self.private_models(user), ref)

    async def delete_model(self, user: str, ref: str, audit: AuditedRequest) -> str:
        """Deletes a model and returns its id. Raises: ModelInUse, and the errors of private_model."""
        model = await self.private_model(user, ref)
        async with audit.recorded(Action.DELETE_MODEL, model=model.id, uid=model.uid):
            await self.trainer.delete_model(user, model)
        return model.id

    def is_asleep(self, resolved: Resolved) -> bool:
        """Returns True if a request for this model waits until a replica has started."""
        health = self.health.get(resolved.base.id)
        return health is not None and health.is_asleep

    async def server(self, resolved: Resolved) -> ModelClient:
        """Returns the replicas that run a model. If there is none because nobody used it, one is started.

        Raises: Unavailable: no replica is healthy, or the base model is not deployed. If that happens later,
        the current request ends with this error too, unless its answer has begun.
        """
        base_model = resolved.base.id
        if base_model not in self.servers:  # it was removed a moment ago
            raise not_deployed(base_model)
        server = self.servers[base_model]
        await self.health[base_model].require(in_progress.current.get(None))
        return server

    async def tokenising_server(self, base_model: str) -> ModelClient:
        """Returns the replicas that count tokens for trainings.

        Raises: Unavailable: no replica is healthy, or the base model is not deployed.
        """
        if base_model not in self.servers:
            raise not_deployed(base_model)
        server = self.servers[base_model]
        await self.health[base_model].require()
        return server

    async def check_storage(self) -> None:
        """Reads from storage. Calls at the same time share one read. Raises an error if the read fails."""

        async def check() -> None:
            await asyncio.wait_for(self.catalog.check_storage(), STORAGE_TIMEOUT_S)

        await self._storage_checks.join("storage", check)()


async def backends(request: Request) -> Backends:
    """Returns the Backends of the application.

    It is a coroutine because FastAPI would call a plain function in a thread for each request.
    """
    found: Backends = request.app.state.backends
    return found


BackendsDependency = Annotated[Backends, Depends(backends)]


async def presumed_caller(request: Request) -> Caller:
    """Returns the caller of a request that changes nothing. Its key may still be checked meanwhile."""
    caller: Caller = request.scope[CALLER]
    return caller


async def current_caller(request: Request) -> Caller:
    """Returns the caller of a request that changes something, after its key was found valid.

    Raises: InvalidApiKey, Unavailable.
    """
    caller = await presumed_caller(request)
    if caller.check is not None:
        await caller.check()
    return caller


async def current_user(request: Request) -> str:
    return (await current_caller(request)).user


async def presumed_user(request: Request) -> str:
    return (await presumed_caller(request)).user


async def within_budget(request: Request) -> None:
    """Refuses a request whose user has no tokens left. Raises: TokenBudgetExceeded, Unavailable."""
    await (await backends(request)).token_budgets.require(await presumed_user(request))


async def audited(request: Request) -> AuditedRequest:
    """Returns what records the actions of a request, after its key was found valid.

    Raises: InvalidApiKey, Unavailable.
    """
    caller, found = await current_caller(request), await backends(request)
    key = await found.authenticator.record(caller.key_hash)
    return AuditedRequest(found.audit, caller.user, key.id, request.headers.get("x-request-id"))


# This only documents the scheme in /docs. Door, in api.door, checks the key and makes the errors.
bearer = HTTPBearer(auto_error=False, description="An API key from `tiger keys create` or `POST /v1/keys`")
CallerDependency = Annotated[Caller, Depends(current_caller)]
UserDependency = Annotated[str, Depends(current_user)]
PresumedUserDependency = Annotated[str, Depends(presumed_user)]
AuditDependency = Annotated[AuditedRequest, Depends(audited)]
WITHIN_BUDGET = Depends(within_budget)
"""A dependency of the routes whose requests use tokens."""
