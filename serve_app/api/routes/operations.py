"""Routes that show whether the service works. They need no key."""

import asyncio

from fastapi import APIRouter

from registry.errors import Unavailable
from serve_app.api.backends import Backends, BackendsDependency
from serve_app.api.openapi import errors
from serve_app.wire.base import Status

router = APIRouter(tags=["operations"])

REFUSED_SETTINGS = (
    "the settings that were deployed last are not valid with the variables of this node; the former ones hold"
)


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

    Otherwise the answer is 503 and names each problem, such as GPUs that are not there. The other base models
    answer requests all the same.
    """
    if problems := await _problems(backends):
        raise Unavailable("; ".join(problems))
    return Status(status="ready")


async def _problems(backends: Backends) -> list[str]:
    problems = [REFUSED_SETTINGS] if backends.has_refused_settings else []
    try:
        await backends.check_storage()
    except Exception:
        problems.append("storage cannot be reached")
    missing = [model.id for model in backends.settings.models if not backends.health[model.id].is_available]
    return problems + list(await asyncio.gather(*map(backends.problems.of, missing)))
