"""`POST /v1/train`: teach a private model with rewards."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from registry.audit import Action
from registry.errors import (
    ContextLengthExceeded,
    IdempotencyConflict,
    InvalidRequest,
    NoLearningSignal,
    QuotaExceeded,
    TigerError,
    TrainingCancelled,
    TrainingDiverged,
    TrainingFailed,
)
from registry.records import Group, Hyperparameters, JobRequest, ModelRecord, RewardedResponse
from serve_app.api.answer_examples import EVENT_LINES, QUEUED_JOB, TRAINED
from serve_app.api.backends import (
    WITHIN_BUDGET,
    AuditDependency,
    Backends,
    BackendsDependency,
    UserDependency,
)
from serve_app.api.bodies import BoundedRoute
from serve_app.api.openapi import BODY, PRIVATE_MODEL, errors, streamed, success
from serve_app.api.streams import MEDIA_TYPE, stream_ndjson
from serve_app.api.value_limits import check_training_values
from serve_app.wire.base import IdempotencyKey
from serve_app.wire.jobs import Job
from serve_app.wire.train import Train, Trained
from training.advantages import advantages
from training.learning_signal import NOTHING_LEFT, is_lost

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
    """Make the next revision of a private model from rewarded responses.

    The answer comes when the new revision is current. With `background` it comes at once and is the job. With
    `stream` it is NDJSON chunks: `info` and `progress`, then `stop`. The training goes on if the client goes
    away.
    """
    model = await backends.private_model(user, request.model)
    job_request = build_job(request, model)
    await _check(backends, user, model, request, job_request)
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


def build_job(request: Train, model: ModelRecord) -> JobRequest:
    """Returns the job to submit. Values that the request leaves out are the model's defaults."""

    def value(name: str) -> Any:
        given = getattr(request, name)
        return getattr(model.defaults, name) if given is None else given

    return JobRequest(
        groups=tuple(
            Group(
                messages=tuple(message.record() for message in group.messages),
                responses=tuple(
                    RewardedResponse(content=r.content, reward=r.reward, ends_turn=r.ends_turn)
                    for r in group.responses
                ),
            )
            for group in request.all_groups()
        ),
        hyperparameters=Hyperparameters(**{name: value(name) for name in Hyperparameters.model_fields}),
    )


async def _check(backends: Backends, user: str, model: ModelRecord, request: Train, job: JobRequest) -> None:
    """Checks a training. The cheap checks come first, and only a request that passes them is tokenised.

    Raises: InvalidRequest, NoLearningSignal, ContextLengthExceeded, RateLimited.
    """
    limits = backends.settings.limits
    is_single = request.groups is None
    examples = "responses" if is_single else "groups"
    check_training_values(request, job.hyperparameters, model, limits)
    num_responses = sum(len(group.responses) for group in job.groups)
    if num_responses > limits.max_responses_per_job:
        raise InvalidRequest(
            f"there are {num_responses} responses; one training takes at most {limits.max_responses_per_job}",
            examples,
        )
    if all(len({response.reward for response in group.responses}) == 1 for group in job.groups):
        raise NoLearningSignal("in every group all rewards are equal, so there is nothing to learn", examples)
    if is_lost(_sizes(job.groups)):
        raise NoLearningSignal(NOTHING_LEFT, examples)
    server = await backends.tokenising_server(model.base_model)
    num_tokens = await server.count_training_tokens(user, job.groups, limits.max_tokens_per_job, is_single)
    steps = job.hyperparameters.learning_steps
    if num_tokens * steps > limits.max_trained_tokens_per_job:
        raise InvalidRequest(
            f"{num_tokens} tokens in {steps} steps are {num_tokens * steps}; "
            f"one training takes at most {limits.max_trained_tokens_per_job}",
            "learning_steps",
        )


def _sizes(groups: Iterable[Group]) -> Iterator[tuple[float, int]]:
    """Yields the advantage and the largest possible number of tokens of each response."""
    for group in groups:
        scores = advantages([response.reward for response in group.responses])
        for response, advantage in zip(group.responses, scores, strict=True):
            yield advantage, len(response.content) + response.ends_turn


def _result(last: dict[str, Any]) -> Trained:
    if last.get("type") == "stop":
        return Trained.model_validate(last)
    error = last.get("error", {})
    if error.get("code") == TrainingCancelled.code:
        raise TrainingCancelled(error["message"])
    if error.get("code") == TrainingDiverged.code:
        raise TrainingDiverged(error["message"])
    raise TrainingFailed(error.get("message", "the training ended without a revision"))
