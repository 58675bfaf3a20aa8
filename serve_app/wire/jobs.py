"""Jobs over HTTP: trainings from accepted to ended."""

from typing import Self

from pydantic import Field

from registry.records import JobError, JobRecord, JobStatus, Timestamp
from serve_app.wire.base import Answer, Metrics


class Job(Answer):
    """A training, from accepted to ended."""

    id: str
    model: str = Field(description="id of the model")
    status: JobStatus
    created: Timestamp
    started: Timestamp | None
    finished: Timestamp | None
    revision: int | None = Field(description="the one it makes; null before it starts")
    step: int = Field(ge=0, description="optimizer steps made")
    steps: int = Field(ge=1, description="optimizer steps to make")
    metrics: Metrics
    error: JobError | None = Field(description="why it failed")

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        return cls(**record.model_dump(include=set(cls.model_fields)))
