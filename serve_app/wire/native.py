"""What goes over the wire. Requests are strict: no unknown field, no conversion between types.

Everything in a request has an upper bound, and a list that is wrong has one error and not one for each of
its items: the error of a body must not cost more than the body.
"""

import unicodedata
from typing import Annotated, Any, Literal, Self

from fastapi import Header
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, computed_field, model_validator

from registry.records import (
    Defaults,
    JobError,
    JobRecord,
    JobStatus,
    Manifest,
    Message,
    ModelRecord,
    Timestamp,
)
from registry.usage import milliseconds
from serve_app.settings import BaseModelSettings

MAX_TEXT_CHARACTERS = 2**24
"""Of one text; the settings bound the whole body, and a model's context what it can take."""
MAX_REF_CHARACTERS = 256
MAX_DESCRIPTION_CHARACTERS = 4096
MAX_MESSAGES = 4096
MAX_GROUPS = 16_384
MAX_RESPONSES = 16_384
MAX_STOPS = 16
MAX_SAMPLES = 64
UNREACHABLE_NAMES = (".", "..")
"""Clients and proxies take these out of a path before they send it."""


def _valid_name(name: str) -> str:
    if not name.isprintable() or not name.strip() or "/" in name or "@" in name:
        raise ValueError("a name has printable characters, not only spaces, and no '/' or '@'")
    if name in UNREACHABLE_NAMES:
        raise ValueError(f"a model cannot have the name '{name}': no path can lead to it")
    return name


def _valid_description(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" and character not in "\n\r\t" for character in text):
        raise ValueError("a description has no control characters but ends of lines and tabs")
    return text


Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
Ref = Annotated[str, Field(max_length=MAX_REF_CHARACTERS)]
StopText = Annotated[str, Field(min_length=1, max_length=1024)]
Name = Annotated[
    str,
    Field(
        min_length=1, max_length=64, description="printable characters, without `/` and `@`; not `.` or `..`"
    ),
    AfterValidator(_valid_name),
]
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARACTERS), AfterValidator(_valid_description)]
Temperature = Annotated[float, Field(ge=0, le=2, description="of sampling; 0: always the likeliest token")]
TopP = Annotated[float, Field(gt=0, le=1, description="sample from the likeliest tokens of this probability")]
LearningRate = Annotated[
    float, Field(gt=0, description="of AdamW, constant; the settings have a highest one")
]
LearningSteps = Annotated[int, Field(ge=1, le=1000, description="optimizer steps of a training")]
Beta = Annotated[
    float,
    Field(
        ge=0,
        description="weight of the KL divergence from the base model; the settings have a highest one",
    ),
]
Epsilon = Annotated[float, Field(gt=0, lt=1, description="clip of the probability ratio of a training")]
Rank = Annotated[int, Field(ge=1, le=4096, description="of the adapter; the base model has a highest one")]
Alpha = Annotated[
    float,
    Field(
        gt=0,
        description="scale of the adapter; left out: twice its rank; the settings have a highest one",
    ),
]
Dropout = Annotated[float, Field(ge=0, lt=1, description="of the adapter while it is trained")]
MaxTokens = Annotated[int, Field(ge=1, lt=2**31, description="at most so many tokens in an answer")]
CurrentRevision = Annotated[int, Field(ge=0, description="the current one; 0 before the first training")]
Stream = Annotated[bool, Field(description="answer in chunks, as they are made")]
Metrics = Annotated[
    dict[str, float],
    Field(
        description="of the last step: loss, kl, clip_ratio, grad_norm and others; "
        "`cut_responses`: how many did not end their turn, `empty_responses`: how many had no tokens"
    ),
]


IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="a repeat with the same key and body makes nothing new"),
]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_field(cls, given: Any) -> Any:
        """Of thousands of unknown fields one is named: pydantic would make an error of each."""
        if not isinstance(given, dict) or len(given) <= len(cls.model_fields):
            return given
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = next(name for name in given if name not in known)
        return {name: given[name] for name in (*known, unknown) if name in given}


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class DefaultValues(Request):
    """The six defaults of a model, each optional."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    learning_rate: LearningRate | None = None
    learning_steps: LearningSteps | None = None
    beta: Beta | None = None
    epsilon: Epsilon | None = None

    def over(self, defaults: Defaults) -> Defaults:
        given = self.model_dump(include=set(Defaults.model_fields), exclude_none=True)
        return defaults.model_copy(update=given)


class CreateModel(DefaultValues):
    name: Name
    description: Description
    parent_model: Ref = Field(description="id or name of a base model or of one of your own models")
    rank: Rank | None = None
    alpha: Alpha | None = None
    dropout: Dropout | None = None


class ChangeModel(DefaultValues):
    name: Name | None = None
    description: Description | None = None


class ModelInfo(Answer):
    """One model that the caller may use."""

    name: str
    id: str = Field(description="made of the name, URL-safe, unique in the account; never changes")
    description: str
    read_only: bool = Field(description="true for base models")
    parent_model: str | None = Field(None, description="its name when this was copied; not of base models")
    revision: CurrentRevision
    last_modified: Timestamp
    default_model: bool = Field(description="answers when a request names none; one model in the list is it")
    temperature: Temperature
    top_p: TopP
    learning_rate: LearningRate
    learning_steps: LearningSteps
    beta: Beta
    epsilon: Epsilon

    @classmethod
    def of_base(cls, model: BaseModelSettings, is_default: bool) -> Self:
        return cls(
            name=model.name,
            id=model.id,
            description=model.description,
            read_only=True,
            revision=0,
            last_modified=model.last_modified,
            default_model=is_default,
            **model.defaults.model_dump(),
        )

    @classmethod
    def of_private(cls, model: ModelRecord, **detail: Any) -> Self:
        return cls(
            name=model.name,
            id=model.id,
            description=model.description,
            read_only=False,
            parent_model=model.parent_model,
            revision=model.revision,
            last_modified=model.last_modified,
            default_model=False,
            **model.defaults.model_dump(),
            **detail,
        )


class ModelDetail(ModelInfo):
    """A model with how it was made. A base model has no rank, alpha, dropout or created."""

    base_model: str = Field(description="id of the base model")
    rank: Rank | None = None
    alpha: Alpha | None = None
    dropout: Dropout | None = None
    created: Timestamp | None = None
    status: Literal["ready", "training"] = Field(description="`training`: one waits or runs")

    @classmethod
    def describe_base(cls, model: BaseModelSettings, is_default: bool) -> Self:
        info = ModelInfo.of_base(model, is_default)
        return cls(**info.model_dump(), base_model=model.id, status="ready")

    @classmethod
    def describe_private(cls, model: ModelRecord, is_training: bool) -> Self:
        return cls.of_private(
            model,
            base_model=model.base_model,
            rank=model.rank,
            alpha=model.alpha,
            dropout=model.dropout,
            created=model.created,
            status="training" if is_training else "ready",
        )


class Status(Answer):
    status: Literal["ok", "ready"]


class DeletedModel(Answer):
    id: str
    message: str = "model has been deleted"


class RevisionInfo(Answer):
    """A revision that carries weights."""

    revision: int
    parent_revision: int | None = Field(description="the one it was trained from; null: a copy")
    created: Timestamp
    job: str | None = Field(description="the training that made it; null: a copy")
    metrics: Metrics
    size_bytes: int = Field(ge=0, description="of all files of the adapter")
    sha256: str = Field(description="digest of the adapter's weights")

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        return cls(
            size_bytes=manifest.size_bytes,
            sha256=manifest.sha256,
            **manifest.model_dump(include={"revision", "parent_revision", "created", "job", "metrics"}),
        )


class ChatMessage(Request):
    role: Literal["system", "user", "assistant"]
    content: Text

    def record(self) -> Message:
        return Message(role=self.role, content=self.content)


def _valid_conversation(messages: list[ChatMessage]) -> list[ChatMessage]:
    if any(message.role == "system" for message in messages[1:]):
        raise ValueError("a system message, if any, is the first")
    if messages[-1].role != "user":
        raise ValueError("the last message is the user's")
    return messages


Conversation = Annotated[
    list[ChatMessage],
    Field(
        fail_fast=True,
        min_length=1,
        max_length=MAX_MESSAGES,
        description="a system message, if any, is the first, and the last one is the user's",
    ),
    AfterValidator(_valid_conversation),
]


class GenerateResponse(Request):
    model: Ref | None = Field(
        None, description="id or name, `@N` for a revision; left out or empty: the default model"
    )
    messages: Conversation
    stream: Stream = False
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None
    stop: Annotated[list[StopText], Field(fail_fast=True, max_length=MAX_STOPS)] | None = Field(
        None, description="texts that end an answer; they are not part of it"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        None, description="the same seed makes the same samples of the same request"
    )
    n: int = Field(1, ge=1, le=MAX_SAMPLES, description="number of samples; 1 with stream")

    @model_validator(mode="after")
    def _one_stream(self) -> Self:
        if self.stream and self.n != 1:
            raise ValueError("n must be 1 when stream is true")
        return self


class AssistantMessage(Answer):
    role: Literal["assistant"] = "assistant"
    content: str


StopReason = Annotated[
    Literal["end_turn", "max_tokens", "stop_sequence"], Field(description="why the model said no more")
]


class GeneratedResponse(Answer):
    content: str
    stop_reason: StopReason
    output_tokens: int = Field(ge=0, description="that were sampled, the one that ends the turn included")


class Durations(Answer):
    duration: float = Field(description="seconds")

    @computed_field(description="the same in milliseconds")  # type: ignore[prop-decorator]
    @property
    def duration_ms(self) -> int:
        return milliseconds(self.duration)


class GenerationUsage(Durations):
    input_tokens: int = Field(ge=0, description="of the prompt")
    output_tokens: int = Field(ge=0, description="of all samples")


class Generated(Answer):
    """Samples of a model."""

    id: str = Field(description="of this answer alone")
    model: str = Field(description="id of the model that answered")
    revision: int = Field(ge=0, description="the one that answered")
    message: AssistantMessage = Field(description="the first sample")
    responses: list[GeneratedResponse] = Field(description="all samples, as train takes them with a reward")
    stop_reason: StopReason
    usage: GenerationUsage


class TrainedResponse(Request):
    content: Text = Field(description="what the model could have said")
    reward: float = Field(description="how good that is; only differences within a group matter")
    stop_reason: StopReason | None = Field(
        None, description="as generation gave it: ending here is learned of what ended by itself (or if null)"
    )
    output_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="as generation gave it; of no effect"
    )

    @property
    def ends_turn(self) -> bool:
        return self.stop_reason in (None, "end_turn")


RewardedResponses = Annotated[
    list[TrainedResponse],
    Field(
        fail_fast=True, min_length=2, max_length=MAX_RESPONSES, description="possible answers to the messages"
    ),
]


class TrainingGroup(Request):
    """A prompt and its rewarded responses."""

    messages: Conversation
    responses: RewardedResponses


TrainingGroups = Annotated[list[TrainingGroup], Field(fail_fast=True, min_length=1, max_length=MAX_GROUPS)]


class Train(Request):
    """One group (`messages`, `responses`) or many (`groups`)."""

    model: Ref = Field(description="id or name of a private model")
    messages: Conversation | None = None
    responses: RewardedResponses | None = None
    groups: (
        Annotated[list[TrainingGroup], Field(fail_fast=True, min_length=1, max_length=MAX_GROUPS)] | None
    ) = Field(None, description="instead of messages and responses")
    learning_rate: LearningRate | None = None
    learning_steps: LearningSteps | None = None
    beta: Beta | None = None
    epsilon: Epsilon | None = None
    stream: Stream = False
    background: bool = Field(False, description="answer at once, with the job")

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        single = self.messages is not None and self.responses is not None
        if self.groups is None and not single:
            raise ValueError("give messages and responses, or groups")
        if self.groups is not None and (self.messages is not None or self.responses is not None):
            raise ValueError("give messages and responses, or groups, not both")
        if self.stream and self.background:
            raise ValueError("stream and background exclude each other")
        return self

    def all_groups(self) -> list[TrainingGroup]:
        if self.groups is not None:
            return self.groups
        assert self.messages is not None and self.responses is not None
        return [TrainingGroup.model_construct(messages=self.messages, responses=self.responses)]


class TrainingUsage(Durations):
    trained_tokens: int = Field(ge=0, description="of all responses, in every step")


class Trained(Answer):
    """A training that made a revision."""

    job: str = Field(description="id of the job")
    model: str = Field(description="id of the model")
    revision: int = Field(ge=0, description="the new one, now current")
    metrics: Metrics
    usage: TrainingUsage


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


class ErrorDetail(Answer):
    type: str = Field(description="the kind of error, as OpenAI's clients know it")
    code: str = Field(description="what a program looks at")
    message: str = Field(description="what a person reads")
    param: str | None = Field(description="path of the field it is about, such as `responses.0.reward`")


class ErrorAnswer(Answer):
    error: ErrorDetail
