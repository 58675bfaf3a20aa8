"""Routes that show whether the service works. They need no key."""

import asyncio

from fastapi import APIRouter

from registry.errors import Unavailable
from registry.leadership import MESSAGE
from serve_app.api.backends import STORAGE_TIMEOUT_S, Backends, BackendsDependency
from serve_app.api.openapi import errors
from serve_app.remote_errors import is_superseded
from serve_app.wire.base import Readiness, Status

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


@router.get("/readyz", responses=errors(Unavailable), response_model_exclude_none=True)
async def readyz(backends: BackendsDependency) -> Readiness:
    """Answers `ready` if storage can be reached and every base model has a healthy replica, or can start one.

    `asleep` names the base models that have no replica because nobody uses them. If something is missing, the
    answer is 503 and names each problem, such as GPUs that are not there, or another cluster that has taken
    over. The other base models answer requests all the same.
    """
    if problems := await _problems(backends):
        raise Unavailable("; ".join(problems))
    asleep = [model.id for model in backends.settings.models if backends.health[model.id].is_asleep]
    return Readiness(status="ready", asleep=asleep or None)


async def _problems(backends: Backends) -> list[str]:
    problems = [REFUSED_SETTINGS] if backends.has_refused_settings else []
    try:
        await backends.check_storage()
        await asyncio.wait_for(backends.catalog.check_leadership(), STORAGE_TIMEOUT_S)
    except Exception as error:
        problems.append(MESSAGE if is_superseded(error) else "storage cannot be reached")
    missing = [model.id for model in backends.settings.models if not backends.health[model.id].is_available]
    return problems + list(await asyncio.gather(*map(backends.problems.of, missing)))
