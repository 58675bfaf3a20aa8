"""Answers of `/v1/jobs`. A job is the record of a training."""

from typing import Self

from pydantic import Field

from registry.records import JobError, JobRecord, JobStatus, Timestamp
from serve_app.wire.base import Answer, Metrics


class JobCheckpoint(Answer):
    """A revision that a training made at the end of an epoch, before its last one."""

    revision: int = Field(ge=1, description="number of the revision")
    step: int = Field(ge=1, description="number of optimizer steps before it")
    created: Timestamp
    metrics: Metrics


class Job(Answer):
    """The record of a training."""

    id: str
    model: str = Field(description="id of the model")
    status: JobStatus
    created: Timestamp
    started: Timestamp | None
    finished: Timestamp | None
    revision: int | None = Field(
        description="the last revision that the training makes; null before it starts"
    )
    step: int = Field(ge=0, description="number of optimizer steps made so far")
    steps: int = Field(ge=1, description="number of optimizer steps in all")
    metrics: Metrics
    checkpoints: tuple[JobCheckpoint, ...] = Field(
        (),
        description="revisions of earlier epochs, oldest first, of a training that makes one for each epoch",
    )
    error: JobError | None = Field(description="reason why the training failed")

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        fields = record.model_dump(include=set(cls.model_fields))
        return cls(**fields | {"status": record.shown_status})
