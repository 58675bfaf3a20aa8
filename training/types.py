"""The messages between the controller and the workers of a resident run, and the calls that carry them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from pydantic import Field

from registry.records import JobRecord, JobRequest, ModelRecord, Record


class Assignment(Record):
    """One attempt at one job, as a worker receives it."""

    job_id: str
    attempt: int
    user: str
    uid: str
    base_model: str
    parent_revision: int
    has_parent_adapter: bool = Field(description="False: training starts from a fresh adapter")
    revision: int = Field(description="the number of the last revision that the job makes")
    rank: int
    alpha: float
    dropout: float
    request: JobRequest

    @classmethod
    def of(cls, record: JobRecord, model: ModelRecord, request: JobRequest) -> Self:
        """The attempt that has begun according to `record`."""
        assert record.parent_revision is not None and record.revision is not None
        return cls(
            job_id=record.id,
            attempt=record.attempt,
            user=record.user,
            uid=record.uid,
            base_model=record.base_model,
            parent_revision=record.parent_revision,
            has_parent_adapter=model.adapter_id(record.parent_revision) is not None,
            revision=record.revision,
            rank=model.rank,
            alpha=model.alpha,
            dropout=model.dropout,
            request=request,
        )


class Resumption(Record):
    """An order to continue an attempt that gave way: it has its turn again."""

    job_id: str
    attempt: int


class Dismissal(Record):
    """An order to forget a job that gave way: it has ended, so the worker need not keep its state."""

    job_id: str


class Instruction(StrEnum):
    """The next act of a worker that gets no job."""

    WAIT = "wait"
    """It asks again."""
    LEAVE = "leave"
    """It ends the run."""


Order = Assignment | Resumption | Dismissal | Instruction
"""The controller's answer to a worker that asks for work."""


class Standing(StrEnum):
    """The controller's answer to a worker's report: what the running job has to do."""

    GOES_ON = "goes_on"
    IS_CANCELLED = "is_cancelled"
    GIVES_WAY = "gives_way"
    """Its turn is over and others wait: its worker has to report that it paused, and then ask for work."""


class Place(Record):
    """The place that a job has reached: between two packs of a step that is not made yet."""

    step: int
    steps: int
    share: float = Field(description="share of the step's packs that are done")


class StepProgress(Record):
    """The report of one optimizer step. A field that its method does not have is None, and is not shown.

    Rewards are over all responses of a request; `seconds` is the step alone.
    """

    step: int
    steps: int
    epoch: float | None = Field(None, description="how often all examples or pairs were gone through so far")
    loss: float
    kl: float | None = Field(None, description="mean per-token KL estimate against the base model")
    clip_ratio: float | None = Field(None, description="fraction of trained tokens whose ratio was clipped")
    token_accuracy: float | None = Field(
        None, description="fraction of trained tokens that were the most probable ones"
    )
    reward_accuracy: float | None = Field(
        None, description="fraction of pairs whose preferred side had the larger implicit reward"
    )
    reward_margin: float | None = Field(
        None, description="mean difference of the implicit rewards of the sides of a pair"
    )
    valid_loss: float | None = Field(
        None, description="loss of the validation examples or pairs, after the last step of an epoch"
    )
    valid_accuracy: float | None = Field(
        None, description="their token_accuracy (supervised) or reward_accuracy (dpo)"
    )
    grad_norm: float
    reward_mean: float | None = None
    reward_std: float | None = None
    learning_rate: float
    seconds: float

    def shown(self) -> dict[str, float]:
        """The fields that the method has, by name."""
        return self.model_dump(exclude_none=True)


class Controller(Protocol):
    """The methods of the controller that a worker calls. `TrainingController` describes them."""

    async def enter(self, base_model: str) -> str: ...

    async def next_assignment(self, base_model: str, worker: str) -> Order: ...

    async def look(self, job_id: str, attempt: int, place: Place) -> Standing: ...

    async def progress(self, job_id: str, attempt: int, step: StepProgress) -> Standing: ...

    async def inform(self, job_id: str, attempt: int, message: str) -> Standing: ...

    async def keep(self, job_id: str, attempt: int, revision: int) -> Standing: ...

    async def borrow_gpu(self, job_id: str, attempt: int) -> None: ...

    async def return_gpu(self, job_id: str, attempt: int) -> None: ...

    async def paused(self, job_id: str, attempt: int) -> None: ...

    async def stopped(self, job_id: str, attempt: int) -> None: ...

    async def complete(self, job_id: str, attempt: int) -> None: ...

    async def fail(self, job_id: str, attempt: int, code: str, message: str) -> None: ...


@dataclass(frozen=True)
class StepMeasures:
    """The measures of one optimizer step. `of_method` are those of the objective, such as the loss."""

    step: int
    of_method: dict[str, float]
    grad_norm: float
    learning_rate: float
    seconds: float


class TrainingOutcome(Record):
    """The measures of a finished training: the metrics of its last step, and its cost."""

    metrics: dict[str, float]
    trained_tokens: int = Field(description="trained tokens, summed over the optimizer steps")
    duration_s: float

    @classmethod
    def of(cls, numbers: Mapping[str, float]) -> Self:
        """The outcome that a worker wrote into the manifest of a revision."""
        metrics = dict(numbers)
        tokens, duration_s = int(metrics.pop("trained_tokens", 0)), metrics.pop("duration_s", 0.0)
        return cls(metrics=metrics, trained_tokens=tokens, duration_s=duration_s)

    def numbers(self) -> dict[str, float]:
        """The numbers of a manifest."""
        return {**self.metrics, "trained_tokens": self.trained_tokens, "duration_s": self.duration_s}


class Cancelled(Exception):
    """The job was cancelled between two packs. Nothing was written."""


class GaveWay(Exception):
    """The job stopped between two packs, so that other users have their turn."""


class ShardedOutOfMemory(Exception):
    """A worker of a sharded model ran out of memory while the others wait for it. The run starts again."""
