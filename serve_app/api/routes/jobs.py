"""`/v1/jobs`: the state and the results of trainings."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from registry.audit import Action
from registry.errors import InvalidRequest, JobNotFound, ModelNotFound, RevisionNotFound
from registry.records import JobStatus
from serve_app.api.answer_examples import EVENT_LINES, JOB
from serve_app.api.backends import AuditDependency, Backends, BackendsDependency, UserDependency
from serve_app.api.job_orders import carry_out
from serve_app.api.openapi import errors, one, streamed, success
from serve_app.api.streams import MEDIA_TYPE, stream_ndjson
from serve_app.wire.base import Ref
from serve_app.wire.jobs import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(description="the id of one of your jobs")]
EVENTS = streamed(MEDIA_TYPE, EVENT_LINES, "chunks: `info` and `progress`, then `stop` or `error`")
ONE_JOB = success(JOB, "the job") | errors(JobNotFound)


@router.get(
    "",
    response_model=list[Job],
    responses=success([JOB], "a page of jobs") | errors(RevisionNotFound, JobNotFound, InvalidRequest),
)
async def list_jobs(
    user: UserDependency,
    backends: BackendsDependency,
    model: Annotated[Ref | None, Query(description="only jobs of this model, by its id or name")] = None,
    status: Annotated[JobStatus | None, Query(description="only jobs with this status")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="number of jobs on a page")] = 20,
    after: Annotated[Ref | None, Query(description="the id of the last job on the previous page")] = None,
) -> Any:
    """List your trainings, newest first."""
    model_id = await _model_id(backends, user, model)
    records = await backends.trainer.list_jobs(user, model_id, status, after, limit)
    return [Job.of(record) for record in records]


@router.get("/{job_id}", response_model=Job, responses=ONE_JOB)
async def get_job(job_id: JobId, user: UserDependency, backends: BackendsDependency) -> Any:
    """Get one training."""
    return Job.of(await backends.trainer.job(user, job_id))


@router.post("/{job_id}/cancel", response_model=Job, responses=ONE_JOB)
async def cancel_job(
    job_id: JobId, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Cancel a training. It makes no further revision.

    A training that waits ends at once; one that runs ends within a step. A training that has ended, or whose
    revision is being published, does not change.
    """
    job = await backends.trainer.job(user, job_id)
    return Job.of(await carry_out(Action.CANCEL_TRAINING, job, user, backends, audit))


@router.post("/{job_id}/pause", response_model=Job, responses=ONE_JOB)
async def pause_job(
    job_id: JobId, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Pause a training until you resume it. Later trainings of its model wait for it.

    A training that runs stops within a step and keeps its progress. A training that is paused, has ended, or
    whose revision is being published, does not change.
    """
    job = await backends.trainer.job(user, job_id)
    return Job.of(await carry_out(Action.PAUSE_TRAINING, job, user, backends, audit))


@router.post("/{job_id}/resume", response_model=Job, responses=ONE_JOB)
async def resume_job(
    job_id: JobId, user: UserDependency, backends: BackendsDependency, audit: AuditDependency
) -> Any:
    """Resume a paused training: it waits for its turn, and goes on where it was.

    A training that is not paused does not change.
    """
    job = await backends.trainer.job(user, job_id)
    return Job.of(await carry_out(Action.RESUME_TRAINING, job, user, backends, audit))


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses=one(EVENTS, "the events of the job") | errors(JobNotFound, InvalidRequest),
)
async def job_events(
    job_id: JobId,
    user: UserDependency,
    backends: BackendsDependency,
    follow: Annotated[bool, Query(description="wait for further events, until the job has ended")] = False,
) -> Any:
    """Get the events of a training so far, as NDJSON. With `follow`, get also those until its end."""
    return await stream_ndjson(backends.trainer.events(user, job_id, follow))


async def _model_id(backends: Backends, user: str, ref: str | None) -> str | None:
    """Returns the id of a model. An unknown reference is returned unchanged.

    It may be the id of a deleted model, whose jobs still exist.
    """
    if ref is None:
        return None
    try:
        return (await backends.resolve(user, ref)).id
    except ModelNotFound:
        return ref
