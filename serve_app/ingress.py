"""The HTTP API: a deployment whose replicas turn requests into calls of the other deployments."""

from typing import Any

from fastapi import Depends, FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.documentation import ALWAYS, DESCRIPTION, TAGS, describe, errors
from serve_app.errors import install_error_handlers
from serve_app.middleware import AnswerHeaders, BodyLimit, KeyCheck
from serve_app.replica_address import listen_at_the_node
from serve_app.routes import generate, jobs, keys, models, openai, operations, train, usage
from serve_app.services import Services, bearer
from serve_app.settings import Settings

ROUTERS = (
    models.router,
    generate.router,
    train.router,
    jobs.router,
    keys.router,
    usage.router,
    openai.router,
)


def build_api(services: Services) -> FastAPI:
    """The FastAPI application over `services`."""
    api = FastAPI(
        title="tiger",
        version="0.1.0",
        description=DESCRIPTION,
        openapi_url="/openapi.json",
        openapi_tags=TAGS,
    )
    api.openapi = describe(api, services.settings)  # type: ignore[method-assign]
    api.state.services = services
    api.add_middleware(BodyLimit, max_bytes=services.settings.ingress.max_request_bytes)
    api.add_middleware(AnswerHeaders)
    api.add_middleware(KeyCheck)
    install_error_handlers(api)
    for router in ROUTERS:
        api.include_router(router, dependencies=[Depends(bearer)], responses=errors(*ALWAYS))
    api.include_router(operations.router)
    return api


@serve.ingress()
class Ingress:
    """One replica. The application is built here, so that nothing but settings and handles is shipped."""

    def __init__(
        self,
        settings: Settings,
        catalog: DeploymentHandle[Any],
        trainer: DeploymentHandle[Any],
        servers: dict[str, DeploymentHandle[Any]],
    ) -> None:
        listen_at_the_node()
        self._services = Services(settings, catalog, trainer, servers)

    async def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self._services)
