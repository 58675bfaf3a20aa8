"""`/healthz` and `/readyz`, without a key."""

import asyncio
from typing import Any

from fastapi import APIRouter
from ray import serve
from ray.serve.schema import ServeStatus

from registry.errors import Unavailable
from serve_app.deployments import model_server_name
from serve_app.documentation import errors
from serve_app.schemas import Status
from serve_app.services import Services, ServicesDependency

router = APIRouter(tags=["operations"])

TIMEOUT_S = 5.0


@router.get("/healthz")
async def healthz() -> Status:
    """The process answers."""
    return Status(status="ok")


@router.get("/readyz", responses=errors(Unavailable))
async def readyz(services: ServicesDependency) -> Status:
    """Storage can be reached and every base model has a replica; if not, 503 says which."""
    if problems := await _problems(services):
        raise Unavailable("; ".join(problems))
    return Status(status="ready")


async def _problems(services: Services) -> list[str]:
    problems = []
    try:
        await asyncio.wait_for(services.catalog.check_storage.remote(), TIMEOUT_S)
    except Exception:
        problems.append("storage cannot be reached")
    status = await asyncio.to_thread(serve.status)
    problems += [
        f"base model {model.id} has no replica"
        for model in services.settings.models
        if not _num_running(status, model_server_name(model.id))
    ]
    return problems


def _num_running(status: ServeStatus, deployment: str) -> int:
    application: Any = status.applications.get(serve.get_replica_context().app_name)
    found = application.deployments.get(deployment) if application else None
    return found.replica_states.get("RUNNING", 0) if found else 0
