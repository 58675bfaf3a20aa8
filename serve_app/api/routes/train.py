"""`POST /v1/train`: teach a private model with rewards, with examples or with preferences."""

import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from registry.audit import Action
from registry.errors import (
    ContextLengthExceeded,
    IdempotencyConflict,
    NoLearningSignal,
    QuotaExceeded,
    TigerError,
    TrainingCancelled,
    TrainingDiverged,
    TrainingFailed,
)
from serve_app.api.answer_examples import EVENT_LINES, QUEUED_JOB, TRAINED
from serve_app.api.backends import (
    WITHIN_BUDGET,
    AuditDependency,
    BackendsDependency,
    UserDependency,
)
from serve_app.api.bodies import BoundedRoute
from serve_app.api.job_request import build_job
from serve_app.api.openapi import BODY, PRIVATE_MODEL, errors, streamed, success
from serve_app.api.streams import MEDIA_TYPE, stream_ndjson
from serve_app.api.training_checks import check_training
from serve_app.wire.base import IdempotencyKey
from serve_app.wire.jobs import Job
from serve_app.wire.train import Train, Trained

router = APIRouter(prefix="/v1", tags=["train"], route_class=BoundedRoute)

RESPONSES = success(TRAINED, "the new current revision; with `stream`, the events of the training")
RESPONSES[200]["content"] |= streamed(
    MEDIA_TYPE, EVENT_LINES, "chunks: `info` and a `progress` per step, then `stop` or `error`"
)
RESPONSES |= success(QUEUED_JOB, "the job, with `background`", 202)
RESPONSES[202]["model"] = Job
RESPONSES |= errors(
    *BODY,
    *PRIVATE_MODEL,
    IdempotencyConflict,
    TrainingCancelled,
    ContextLengthExceeded,
    NoLearningSignal,
    TrainingDiverged,
    QuotaExceeded,
    TrainingFailed,
    TigerError,
)


@router.post("/train", response_model=Trained, responses=RESPONSES, dependencies=[WITHIN_BUDGET])
async def train(
    request: Train,
    user: UserDependency,
    backends: BackendsDependency,
    audit: AuditDependency,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Make the next revision of a private model from rewarded responses, examples or pairs.

    The answer comes when the new revision is current. With `background` it comes at once and is the job. With
    `stream` it is NDJSON chunks: `info` and `progress`, then `stop`. The training goes on if the client goes
    away.
    """
    model = await backends.private_model(user, request.model)
    job_request = build_job(request, model)
    await check_training(backends, user, model, request, job_request)
    status = 202 if request.background else 200
    async with audit.recorded(Action.ACCEPT_TRAINING, status, model=model.id, uid=model.uid) as made:
        record = await backends.trainer.submit(user, model, job_request, idempotency_key)
        made["job"] = record.id
    if request.background:
        return JSONResponse(Job.of(record).model_dump(mode="json"), 202)
    events = backends.trainer.events(user, record.id, follow=True)
    if request.stream:
        return await stream_ndjson(events)
    last = ""
    async for line in events:
        last = line
    return _result(json.loads(last))


def _result(last: dict[str, Any]) -> Trained:
    if last.get("type") == "stop":
        return Trained.model_validate(last)
    error = last.get("error", {})
    if error.get("code") == TrainingCancelled.code:
        raise TrainingCancelled(error["message"])
    if error.get("code") == TrainingDiverged.code:
        raise TrainingDiverged(error["message"])
    raise TrainingFailed(error.get("message", "the training ended without a revision"))
