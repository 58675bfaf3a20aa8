"""The HTTP API. The replicas of this deployment turn requests into calls of the other deployments."""

from typing import Any

from fastapi import Depends, FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.routing import Route
from starlette.types import ASGIApp

from serve_app.api.backends import Backends, bearer
from serve_app.api.cross_origin import Entrance
from serve_app.api.door import Door
from serve_app.api.errors import install_error_handlers
from serve_app.api.http_metrics import CountedRequests, HttpMetrics, RayHttpMetrics
from serve_app.api.in_progress import Endings
from serve_app.api.key_check import KeyCheck
from serve_app.api.middleware import AnswerHeaders
from serve_app.api.openapi import ALWAYS, DESCRIPTION, TAGS, describe, errors
from serve_app.api.readiness_gauges import ReadinessGauges
from serve_app.api.routes import (
    console,
    files,
    generate,
    jobs,
    keys,
    me,
    models,
    openai,
    operations,
    operator,
    responses,
    train,
    usage,
)
from serve_app.api.trainer_client import TrainerClient
from serve_app.base_model_handles import model_client
from serve_app.catalog.client import CatalogClient
from serve_app.deployed_settings import Document, core_settings, new_or_former
from serve_app.lasting_gauges import LastingGauges
from serve_app.ray_private import user_config_of_this_replica
from serve_app.replica_address import listen_at_the_node
from serve_app.state_gauges import StateGauges
from serve_app.version import VERSION

ROUTERS = (
    models.router,
    generate.router,
    train.router,
    jobs.router,
    keys.router,
    usage.router,
    me.router,
    operator.router,
    openai.router,
    responses.router,
    files.router,
)


def build_api(backends: Backends, metrics: HttpMetrics) -> FastAPI:
    """Returns the FastAPI application that uses `backends`.

    CountedRequests -> KeyCheck -> AnswerHeaders -> Endings -> Door -> routes
    """
    api = FastAPI(
        title="tiger",
        version=VERSION,
        description=DESCRIPTION,
        openapi_url="/openapi.json",
        openapi_tags=TAGS,
        redirect_slashes=False,  # a redirect would go to any host that the request names
    )
    api.openapi = describe(api, lambda: backends.settings)  # type: ignore[method-assign]
    api.state.backends = backends
    install_error_handlers(api)
    public = frozenset(
        route.path for route in (*api.routes, *operations.router.routes) if isinstance(route, Route)
    )
    for router in ROUTERS:
        api.include_router(router, dependencies=[Depends(bearer)], responses=errors(*ALWAYS))
    api.include_router(operations.router)
    api.include_router(console.router)
    authenticator = backends.authenticator
    api.add_middleware(Door, public, authenticator, backends.request_limit, lambda: backends.settings)
    api.add_middleware(Endings)
    api.add_middleware(AnswerHeaders)
    api.add_middleware(KeyCheck, authenticator.recheck, backends.key_watch)
    api.add_middleware(CountedRequests, metrics, api.routes)
    return api


@serve.ingress()
class Ingress:
    """One replica. It builds the application itself, so Serve has to pickle only settings and handles.

    `args` are the settings with which it starts. It applies those of its `user_config` while it runs.
    """

    def __init__(
        self, args: Document, catalog: DeploymentHandle[Any], trainer: DeploymentHandle[Any]
    ) -> None:
        listen_at_the_node()
        self._args = args
        self._state = StateGauges("Ingress")
        self._services = Backends(
            core_settings(args, user_config_of_this_replica()),
            CatalogClient(catalog),
            TrainerClient(trainer),
            model_client,
        )

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        # The health is asked for now, so that the first request of a new replica does not wait for it.
        await self._services.ask_base_models()
        self._services.watch_base_models()
        self._gauges = ReadinessGauges(self._services.check_storage, self._services.health, LastingGauges())
        self._gauges.start()
        api = build_api(self._services, RayHttpMetrics())
        return Entrance(api, lambda: self._services.settings.ingress.allowed_origins)

    async def reconfigure(self, user_config: Document) -> None:
        """Changes the settings. Serve also calls it once at the start, when they are the same."""
        former = self._services.settings
        settings = new_or_former(core_settings, self._args, user_config, former)
        self._services.has_refused_settings = settings is former
        self._state.tell_refused(settings is former)
        if settings != former:
            self._services.apply(settings)
            self._services.watch_base_models()
