"""Routes that show whether the service works. They need no key."""

import asyncio

from fastapi import APIRouter

from registry.errors import Unavailable
from registry.leadership import MESSAGE
from serve_app.api.backends import STORAGE_TIMEOUT_S, Backends, BackendsDependency
from serve_app.api.openapi import errors
from serve_app.deployment_options import model_server_name
from serve_app.remote_errors import is_superseded
from serve_app.resource_waits import WAITS_FOR
from serve_app.wire.base import Status

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> Status:
    """Answers if the ingress works. It checks nothing else."""
    return Status(status="ok")


@router.get("/openai/health")
async def health() -> Status:
    """Answers if the ingress works, at the path where clients of OpenAI-compatible servers ask for it."""
    return Status(status="ok")


@router.get("/readyz", responses=errors(Unavailable))
async def readyz(backends: BackendsDependency) -> Status:
    """Answers `ready` if storage can be reached and every base model has a healthy replica.

    Otherwise the answer is 503 and names the problem, such as GPUs that are not there, or another cluster
    that has taken over.
    """
    if problems := await _problems(backends):
        raise Unavailable("; ".join(problems))
    return Status(status="ready")


async def _problems(backends: Backends) -> list[str]:
    problems = []
    try:
        await backends.check_storage()
        await asyncio.wait_for(backends.catalog.check_leadership(), STORAGE_TIMEOUT_S)
    except Exception as error:
        problems.append(MESSAGE if is_superseded(error) else "storage cannot be reached")
    missing = [model.id for model in backends.settings.models if not backends.health[model.id].is_available]
    return problems + [await _problem_of(backends, base_model) for base_model in missing]


async def _problem_of(backends: Backends, base_model: str) -> str:
    problem = f"base model {base_model} has no replica that answers"
    try:
        wait = await asyncio.to_thread(backends.waits.of_replica, model_server_name(base_model))
    except Exception:  # Ray's control store does not answer
        return problem
    return f"{problem}: {WAITS_FOR} {wait}" if wait else problem
