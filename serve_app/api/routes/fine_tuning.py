"""`/openai/v1/fine_tuning/jobs`: trainings with uploaded files, for clients of OpenAI's API."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi import Request as HttpRequest

from registry.audit import Action
from registry.errors import (
    ContextLengthExceeded,
    FileNotFound,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    NoLearningSignal,
    QuotaExceeded,
    TokenBudgetExceeded,
)
from registry.records import JobRecord
from serve_app.api.backends import (
    WITHIN_BUDGET,
    AuditDependency,
    Backends,
    BackendsDependency,
    UserDependency,
)
from serve_app.api.bodies import BoundedRoute
from serve_app.api.fine_tuning.answer_examples import (
    FINE_TUNING_CHECKPOINT,
    FINE_TUNING_EVENT,
    FINE_TUNING_JOB,
)
from serve_app.api.fine_tuning.answers import answer_of, checkpoints_of
from serve_app.api.fine_tuning.creation import JobCreation
from serve_app.api.fine_tuning.events import events_of
from serve_app.api.fine_tuning.pages import MetadataFilter, page_of, page_of_jobs
from serve_app.api.job_orders import carry_out
from serve_app.api.openapi import BODY, MODEL, errors, success
from serve_app.wire.base import IdempotencyKey, Ref
from serve_app.wire.fine_tuning import (
    CreateFineTuningJob,
    FineTuningCheckpoints,
    FineTuningEvents,
    FineTuningJob,
    FineTuningJobs,
)

router = APIRouter(prefix="/openai/v1/fine_tuning/jobs", tags=["openai"], route_class=BoundedRoute)

JobId = Annotated[str, Path(description="the id of one of your fine-tuning jobs")]
Limit = Annotated[int, Query(ge=1, le=100, description="number of items on a page")]
After = Annotated[Ref | None, Query(description="the id of the last item on the previous page")]
ONE_JOB = success(FINE_TUNING_JOB, "the job") | errors(JobNotFound)
REFUSALS = (
    FileNotFound,
    ContextLengthExceeded,
    NoLearningSignal,
    IdempotencyConflict,
    QuotaExceeded,
    TokenBudgetExceeded,
)


def _listed(example: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": [example], "has_more": False, **more}


FIRST_AND_LAST = {"first_id": FINE_TUNING_CHECKPOINT["id"], "last_id": FINE_TUNING_CHECKPOINT["id"]}


@router.post(
    "",
    response_model=FineTuningJob,
    responses=success(FINE_TUNING_JOB, "the job, which waits for its turn")
    | errors(*BODY, *MODEL, *REFUSALS, openai=True),
    dependencies=[WITHIN_BUDGET],
)
async def create_fine_tuning_job(
    request: CreateFineTuningJob,
    user: UserDependency,
    backends: BackendsDependency,
    audit: AuditDependency,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Teach a model with an uploaded file. A base model is copied first; so is a private one with `suffix`.

    The files are read and checked before the answer. An error names the line. The job has its own copy of
    their contents.
    """
    return answer_of(await JobCreation(backends, audit, user, idempotency_key).create(request))


@router.get(
    "",
    response_model=FineTuningJobs,
    responses=success(_listed(FINE_TUNING_JOB), "a page of jobs")
    | errors(JobNotFound, InvalidRequest, openai=True),
)
async def list_fine_tuning_jobs(
    http: HttpRequest,
    user: UserDependency,
    backends: BackendsDependency,
    limit: Limit = 20,
    after: After = None,
) -> Any:
    """List your fine-tuning jobs, newest first. `metadata[key]=value` selects those with this value.

    Trainings of `POST /v1/train` are not among them.
    """
    chosen = MetadataFilter(http.query_params)
    page, has_more = await page_of_jobs(backends.trainer, user, chosen, after, limit)
    return FineTuningJobs(data=[answer_of(record) for record in page], has_more=has_more)


@router.get("/{job_id}", response_model=FineTuningJob, responses=ONE_JOB)
async def get_fine_tuning_job(job_id: JobId, user: UserDependency, backends: BackendsDependency) -> Any:
    """Get one fine-tuning job."""
    return answer_of(await _find(backends, user, job_id))


@router.post("/{job_id}/cancel", response_model=FineTuningJob, responses=ONE_JOB)
async def cancel_fine_tuning_job(
    job_id: JobId, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Cancel a job. Checkpoints that it has made stay. A job that has ended does not change."""
    job = await _find(backends, user, job_id)
    return answer_of(await carry_out(Action.CANCEL_TRAINING, job, user, backends, audit))


@router.post("/{job_id}/pause", response_model=FineTuningJob, responses=ONE_JOB)
async def pause_fine_tuning_job(
    job_id: JobId, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Pause a job until you resume it. A job that is paused or has ended does not change."""
    job = await _find(backends, user, job_id)
    return answer_of(await carry_out(Action.PAUSE_TRAINING, job, user, backends, audit))


@router.post("/{job_id}/resume", response_model=FineTuningJob, responses=ONE_JOB)
async def resume_fine_tuning_job(
    job_id: JobId, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Resume a paused job. A job that is not paused does not change."""
    job = await _find(backends, user, job_id)
    return answer_of(await carry_out(Action.RESUME_TRAINING, job, user, backends, audit))


@router.get(
    "/{job_id}/events",
    response_model=FineTuningEvents,
    responses=success(_listed(FINE_TUNING_EVENT), "a page of events")
    | errors(JobNotFound, InvalidRequest, openai=True),
)
async def list_fine_tuning_events(
    job_id: JobId, user: UserDependency, backends: BackendsDependency, limit: Limit = 20, after: After = None
) -> Any:
    """List the events of a job so far, newest first, with the numbers of each step."""
    record = await _find(backends, user, job_id)
    lines = [line async for line in backends.trainer.events(user, job_id, follow=False)]
    page, has_more = page_of(events_of(record, lines), after, limit)
    return FineTuningEvents(data=page, has_more=has_more)


@router.get(
    "/{job_id}/checkpoints",
    response_model=FineTuningCheckpoints,
    responses=success(_listed(FINE_TUNING_CHECKPOINT, **FIRST_AND_LAST), "a page of checkpoints")
    | errors(JobNotFound, InvalidRequest, openai=True),
)
async def list_fine_tuning_checkpoints(
    job_id: JobId, user: UserDependency, backends: BackendsDependency, limit: Limit = 10, after: After = None
) -> Any:
    """List the revisions that a job has made, one for each epoch, newest first."""
    page, has_more = page_of(checkpoints_of(await _find(backends, user, job_id)), after, limit)
    return FineTuningCheckpoints(
        data=page,
        has_more=has_more,
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
    )


async def _find(backends: Backends, user: str, job_id: str) -> JobRecord:
    """Finds a job. Raises: JobNotFound: unknown, another user's, or a training of `POST /v1/train`."""
    record = await backends.trainer.job(user, job_id)
    if record.fine_tuning is None:
        raise JobNotFound("no such job")
    return record
