"""What goes over the wire. Requests are strict: no unknown field, no conversion between types."""

from typing import Annotated, Any, Literal, Self

from fastapi import Header
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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
from serve_app.settings import BaseModelSettings


def _valid_name(name: str) -> str:
    if not name.isprintable() or not name.strip() or "/" in name or "@" in name:
        raise ValueError("a name has printable characters, not only spaces, and no '/' or '@'")
    return name


def _valid_text(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the text has a lone surrogate, which is no character")
    return text


Text = Annotated[str, AfterValidator(_valid_text)]
Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_valid_name)]
Description = Annotated[str, Field(max_length=4096)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
LearningRate = Annotated[float, Field(gt=0)]
LearningSteps = Annotated[int, Field(ge=1, le=1000)]
Beta = Annotated[float, Field(ge=0)]
Epsilon = Annotated[float, Field(gt=0, lt=1)]


IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="a repeat with the same key and body makes nothing new"),
]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


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
    parent_model: Text = Field(description="id or name of a base model or of one of your own models")
    rank: Annotated[int, Field(ge=1)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None


class ChangeModel(DefaultValues):
    name: Name | None = None
    description: Description | None = None


class ModelInfo(Answer):
    """One model that the caller may use."""

    name: str
    id: str
    description: str
    read_only: bool
    parent_model: str | None = Field(None, description="absent for base models")
    revision: int
    last_modified: Timestamp
    default_model: bool
    temperature: float
    top_p: float
    learning_rate: float
    learning_steps: int
    beta: float
    epsilon: float

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

    base_model: str
    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    created: Timestamp | None = None
    status: Literal["ready", "training"]

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


class DeletedModel(Answer):
    id: str
    message: str = "model has been deleted"


class RevisionInfo(Answer):
    revision: int
    parent_revision: int | None
    created: Timestamp
    job: str | None
    metrics: dict[str, float]
    size_bytes: int
    sha256: str

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


Conversation = Annotated[list[ChatMessage], Field(min_length=1), AfterValidator(_valid_conversation)]


class GenerateResponse(Request):
    model: Text | None = Field(
        None, description="id or name, `@N` for a revision; left out: the default model"
    )
    messages: Conversation
    stream: bool = False
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    n: int = Field(1, ge=1, le=64)

    @model_validator(mode="after")
    def _one_stream(self) -> Self:
        if self.stream and self.n != 1:
            raise ValueError("n must be 1 when stream is true")
        return self


class AssistantMessage(Answer):
    role: Literal["assistant"] = "assistant"
    content: str


StopReason = Literal["end_turn", "max_tokens", "stop_sequence"]


class GeneratedResponse(Answer):
    content: str
    stop_reason: StopReason


class GenerationUsage(Answer):
    input_tokens: int
    output_tokens: int
    duration: float = Field(description="seconds")


class Generated(Answer):
    model: str
    revision: int
    message: AssistantMessage
    responses: list[GeneratedResponse]
    stop_reason: StopReason
    usage: GenerationUsage


class TrainedResponse(Request):
    content: Text
    reward: float


class TrainingGroup(Request):
    messages: Conversation
    responses: Annotated[list[TrainedResponse], Field(min_length=2)]


class Train(Request):
    """One group (`messages`, `responses`) or many (`groups`)."""

    model: Text
    messages: Conversation | None = None
    responses: Annotated[list[TrainedResponse], Field(min_length=2)] | None = None
    groups: Annotated[list[TrainingGroup], Field(min_length=1)] | None = None
    learning_rate: LearningRate | None = None
    learning_steps: LearningSteps | None = None
    beta: Beta | None = None
    epsilon: Epsilon | None = None
    stream: bool = False
    background: bool = False

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


class TrainingUsage(Answer):
    trained_tokens: int
    duration: float = Field(description="seconds")


class Trained(Answer):
    job: str
    model: str
    revision: int
    metrics: dict[str, float]
    usage: TrainingUsage


class Job(Answer):
    id: str
    model: str
    status: JobStatus
    created: Timestamp
    started: Timestamp | None
    finished: Timestamp | None
    revision: int | None
    step: int
    steps: int
    metrics: dict[str, float]
    error: JobError | None

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        return cls(**record.model_dump(include=set(cls.model_fields)))


class ErrorDetail(Answer):
    type: str
    code: str
    message: str
    param: str | None


class ErrorAnswer(Answer):
    error: ErrorDetail
