"""Requests and answers of `POST /v1/generate_response`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from registry.records import Message
from serve_app.wire.base import Answer, Durations, Ref, Request, Stream, Text
from serve_app.wire.models import Temperature, TopP

MAX_MESSAGES = 4096
MAX_STOPS = 16
MAX_SAMPLES = 64
StopText = Annotated[str, Field(min_length=1, max_length=1024)]
MaxTokens = Annotated[int, Field(ge=1, lt=2**31, description="largest number of tokens in an answer")]


class ChatMessage(Request):
    role: Literal["system", "user", "assistant"]
    content: Text

    def record(self) -> Message:
        return Message(role=self.role, content=self.content)


def _valid_conversation(messages: list[ChatMessage]) -> list[ChatMessage]:
    if any(message.role == "system" for message in messages[1:]):
        raise ValueError("a system message must be the first message")
    if messages[-1].role != "user":
        raise ValueError("the last message must be the user's")
    return messages


Conversation = Annotated[
    list[ChatMessage],
    Field(
        fail_fast=True,
        min_length=1,
        max_length=MAX_MESSAGES,
        description="the last message must be the user's; a system message can only be the first",
    ),
    AfterValidator(_valid_conversation),
]


class GenerateResponse(Request):
    model: Ref | None = Field(
        None, description="id or name of the model, with `@N` for revision N; empty: the default model"
    )
    messages: Conversation
    stream: Stream = False
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None
    stop: Annotated[list[StopText], Field(fail_fast=True, max_length=MAX_STOPS)] | None = Field(
        None, description="texts that end an answer; the answer does not contain them"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        None, description="the same request with the same seed gets the same samples"
    )
    n: int = Field(1, ge=1, le=MAX_SAMPLES, description="number of samples; it must be 1 with stream")

    @model_validator(mode="after")
    def _one_stream(self) -> Self:
        if self.stream and self.n != 1:
            raise ValueError("n must be 1 when stream is true")
        return self


class AssistantMessage(Answer):
    role: Literal["assistant"] = "assistant"
    content: str


StopReason = Annotated[
    Literal["end_turn", "max_tokens", "stop_sequence"], Field(description="reason why the answer ended")
]


class GeneratedResponse(Answer):
    content: str
    stop_reason: StopReason
    output_tokens: int = Field(ge=0, description="number of sampled tokens, with the one that ends the turn")


class GenerationUsage(Durations):
    input_tokens: int = Field(ge=0, description="number of tokens of the prompt")
    output_tokens: int = Field(ge=0, description="number of tokens of all samples")


class Generated(Answer):
    """An answer with the samples of a model."""

    id: str = Field(description="unique id of this answer")
    model: str = Field(description="id of the model that answered")
    revision: int = Field(ge=0, description="revision that answered")
    message: AssistantMessage = Field(description="the first sample")
    responses: list[GeneratedResponse] = Field(description="all samples; add rewards to train on them")
    stop_reason: StopReason
    usage: GenerationUsage
