"""Requests and answers of OpenAI's fine-tuning API.

    method.<type>.hyperparameters, or the older hyperparameters  ->  CreateFineTuningJob.chosen  ->  Chosen

A hyperparameter that is `auto`, or not given, is None in `Chosen`: the service chooses it when it knows the
file. Fields of methods and services that do not exist here are refused by name.
"""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from registry.records import Method
from serve_app.wire.base import Answer, Ref, Request
from serve_app.wire.models import Beta
from serve_app.wire.refused_fields import refused, refused_at
from serve_app.wire.train import MAX_EXAMPLES

MAX_METADATA = 16
MAX_SUFFIX_CHARACTERS = 64
MAX_MULTIPLIER = 1_000
MAX_JOB_EPOCHS = 100
"""Each epoch makes a revision, which stays in the bucket. A file of one line could else make a thousand."""
REASONS = {
    "reinforcement": "`reinforcement` is not supported: there are no graders; "
    "teach with your own rewards at `/v1/train`",
    "integrations": "no results are sent to other services",
}

Auto = Literal["auto"]
BatchSize = Auto | Annotated[int, Field(ge=1, le=MAX_EXAMPLES)]
Multiplier = Auto | Annotated[float, Field(gt=0, le=MAX_MULTIPLIER)]
NumEpochs = Auto | Annotated[int, Field(ge=1, le=MAX_JOB_EPOCHS)]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataText = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataText], Field(fail_fast=True, max_length=MAX_METADATA)]


class Chosen(NamedTuple):
    """The method of a job, and the hyperparameters that its request gives. None: the service chooses."""

    method: Method
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    num_epochs: int | None = None
    beta: float | None = None


class SupervisedHyperparameters(Request):
    batch_size: BatchSize = Field("auto", description="number of examples of a step")
    learning_rate_multiplier: Multiplier = Field("auto", description="factor of the learning rate")
    n_epochs: NumEpochs = Field("auto", description="number of passes over all examples")

    def chosen(self, method: Method) -> Chosen:
        return Chosen(
            method,
            None if self.batch_size == "auto" else self.batch_size,
            None if self.learning_rate_multiplier == "auto" else self.learning_rate_multiplier,
            None if self.n_epochs == "auto" else self.n_epochs,
        )


class DpoHyperparameters(SupervisedHyperparameters):
    beta: Auto | Annotated[Beta, Field(gt=0)] = Field(
        "auto", description="weight of the distance from the model before"
    )

    def chosen(self, method: Method) -> Chosen:
        return super().chosen(method)._replace(beta=None if self.beta == "auto" else self.beta)


class SupervisedMethod(Request):
    hyperparameters: SupervisedHyperparameters = Field(
        SupervisedHyperparameters(), description="values of the training"
    )


class DpoMethod(Request):
    hyperparameters: DpoHyperparameters = Field(DpoHyperparameters(), description="values of the training")


class FineTuningMethod(Request):
    """The method of a job. Only the part of its own type may be given."""

    type: Literal["supervised", "dpo"]
    supervised: SupervisedMethod | None = Field(None, description="for the type `supervised`")
    dpo: DpoMethod | None = Field(None, description="for the type `dpo`")

    @model_validator(mode="before")
    @classmethod
    def _is_supported(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("type") == "reinforcement":
            raise refused("type", REASONS["reinforcement"])
        if given.get("reinforcement") is not None:
            raise refused("reinforcement", REASONS["reinforcement"])
        return {name: value for name, value in given.items() if name != "reinforcement"}

    @model_validator(mode="after")
    def _parts_are_of_the_type(self) -> Self:
        for other in {"supervised", "dpo"} - {self.type}:
            if getattr(self, other) is not None:
                raise refused(other, f"`{other}` is not for the type `{self.type}`")
        return self

    def chosen(self) -> Chosen:
        if self.type == "dpo":
            return (self.dpo or DpoMethod()).hyperparameters.chosen(Method.DPO)
        return (self.supervised or SupervisedMethod()).hyperparameters.chosen(Method.SUPERVISED)


class CreateFineTuningJob(Request):
    model: Ref = Field(description="id or name of the model that is taught")
    training_file: Ref = Field(description="id of a file with the purpose `fine-tune`")
    validation_file: Ref | None = Field(None, description="id of a file that is measured and not learned")
    method: FineTuningMethod | None = Field(None, description="default: supervised")
    hyperparameters: SupervisedHyperparameters | None = Field(
        None, description="older form of the hyperparameters of the method `supervised`"
    )
    suffix: Annotated[str, Field(min_length=1, max_length=MAX_SUFFIX_CHARACTERS)] | None = Field(
        None, description="text for the name of the new model"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(None, description="seed of the job")
    metadata: Metadata | None = Field(None, description="texts of your own")

    @model_validator(mode="before")
    @classmethod
    def _without_integrations(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "integrations" not in given:
            return given
        if given["integrations"]:
            raise refused("integrations", f"this field is not supported; {REASONS['integrations']}")
        return {name: value for name, value in given.items() if name != "integrations"}

    @model_validator(mode="after")
    def _gives_hyperparameters_once(self) -> Self:
        if self.method is not None and self.hyperparameters is not None:
            raise refused_at(("hyperparameters",), "give them in `method`, and not beside it")
        return self

    def chosen(self) -> Chosen:
        if self.method is not None:
            return self.method.chosen()
        return (self.hyperparameters or SupervisedHyperparameters()).chosen(Method.SUPERVISED)


class FineTuningError(Answer):
    code: str
    message: str
    param: str | None = Field(description="field of the request that is the cause, or null")


class FineTuningJob(Answer):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int = Field(description="seconds since 1970, UTC")
    finished_at: int | None = Field(description="seconds since 1970, UTC; null: it has not ended")
    estimated_finish: None = Field(None, description="not known")
    status: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    model: str = Field(description="the model that is taught")
    fine_tuned_model: str | None = Field(description="the model that the job made; null before its end")
    training_file: str = Field(description="id of the file")
    validation_file: str | None = Field(description="id of the file, or null")
    result_files: tuple[str, ...] = Field(description="ids of files with the numbers of each step")
    trained_tokens: int | None = Field(description="null before the end")
    error: FineTuningError | None
    method: FineTuningMethod = Field(description="the method, with the values that were given or chosen")
    hyperparameters: SupervisedHyperparameters = Field(description="those of `method`, in the older form")
    seed: int = Field(description="seed of the order of the lines")
    metadata: Metadata | None = Field(description="texts of the request")
    integrations: tuple[()] = Field((), description="none")
    organization_id: str = Field("tiger", description="no effect")


class FineTuningEvent(Answer):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int = Field(description="seconds since 1970, UTC")
    level: Literal["info", "warn", "error"] = Field(description="importance of the event")
    message: str
    type: Literal["message", "metrics"] = Field(description="`metrics`: `data` has the numbers of a step")
    data: dict[str, float] = Field({}, description="numbers of a step")


class CheckpointMetrics(Answer):
    step: int = Field(description="number of the optimizer step")
    train_loss: float | None = Field(None, description="loss of the step")
    train_mean_token_accuracy: float | None = Field(None, description="accuracy of the step")
    full_valid_loss: float | None = Field(None, description="loss of the whole validation file")
    full_valid_mean_token_accuracy: float | None = Field(
        None, description="accuracy in the whole validation file"
    )


class FineTuningCheckpoint(Answer):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int = Field(description="seconds since 1970, UTC")
    fine_tuning_job_id: str = Field(description="the job that made it")
    fine_tuned_model_checkpoint: str = Field(description="the model with the number of its revision")
    step_number: int = Field(description="number of optimizer steps")
    metrics: CheckpointMetrics = Field(description="numbers of that step")


class Page(Answer):
    object: Literal["list"] = "list"
    has_more: bool = Field(description="true: there is another page")


class FineTuningJobs(Page):
    data: list[FineTuningJob]


class FineTuningEvents(Page):
    data: list[FineTuningEvent]


class FineTuningCheckpoints(Page):
    data: list[FineTuningCheckpoint]
    first_id: str | None = Field(description="id of the first checkpoint on this page")
    last_id: str | None = Field(description="id of the last checkpoint on this page")
