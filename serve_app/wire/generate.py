"""Conversations and their answers over HTTP."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from registry.records import Message
from serve_app.wire.base import Answer, Durations, Ref, Request, Stream, Text
from serve_app.wire.models import Temperature, TopP

MAX_MESSAGES = 4096
MAX_STOPS = 16
MAX_SAMPLES = 64
StopText = Annotated[str, Field(min_length=1, max_length=1024)]
MaxTokens = Annotated[int, Field(ge=1, lt=2**31, description="at most so many tokens in an answer")]


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
