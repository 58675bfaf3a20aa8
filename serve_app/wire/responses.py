"""What clients of OpenAI's Responses API send, as far as it is taken.

Nothing is stored here: an answer is made of what the request brings, and what refers to an earlier one is
refused by name. There are no built-in tools. The parts that chat has too are those of `openai_schemas`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from serve_app.wire.base import Answer, Ref, Request, Text
from serve_app.wire.generate import MAX_MESSAGES, MaxTokens
from serve_app.wire.models import Temperature, TopP
from serve_app.wire.openai import MAX_TOOLS, StreamOptions
from serve_app.wire.openai_formats import (
    FunctionDefinition,
    FunctionName,
    ObjectFormat,
    SchemaFormat,
    SizeOfTools,
    TextFormat,
)
from serve_app.wire.openai_turns import MAX_PARTS, Label, Lenient

MAX_METADATA = 16
MAX_INCLUDES = 32
LOG_PROBS = "message.output_text.logprobs"


def _refused(reason: str) -> BeforeValidator:
    """For a field that can only be left out."""

    def validate(value: Any) -> None:
        if value is not None:
            raise ValueError(reason)

    return BeforeValidator(validate)


STATELESS = "nothing is stored here; send the whole conversation as input"
NotStored = Annotated[None, _refused(STATELESS)]


class InputText(Lenient):
    type: Literal["input_text", "output_text", "text"]
    text: Text


class InputRefusal(Lenient):
    type: Literal["refusal"]
    refusal: Text = Field(description="instead of text")

    @property
    def text(self) -> str:
        return self.refusal


Part = Annotated[InputText | InputRefusal, Field(discriminator="type")]
Content = Text | Annotated[list[Part], Field(fail_fast=True, max_length=MAX_PARTS)]


def text_of(content: str | list[InputText | InputRefusal]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


class MessageItem(Lenient):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class FunctionCallItem(Lenient):
    type: Literal["function_call"]
    call_id: Label = Field(description="what its result refers to")
    name: FunctionName
    arguments: Text = Field(description="a JSON object, as text")


class FunctionCallOutputItem(Lenient):
    type: Literal["function_call_output"]
    call_id: Label = Field(description="that of the call that this is the result of")
    output: Content = Field(description="the result, as text")


class ReasoningItem(Lenient):
    """How a model came to an earlier answer. Taken and not shown: chat templates drop it too."""

    type: Literal["reasoning"]


def _kind_of_item(value: Any) -> str | None:
    """A message needs no type."""
    if isinstance(value, dict):
        kind = value.get("type", "message")
        return kind if isinstance(kind, str) else None
    return getattr(value, "type", None)


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionCallOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(
        _kind_of_item,
        custom_error_type="item_type",
        custom_error_message="an item is a message, function_call, function_call_output or reasoning; "
        "nothing is stored that an item_reference could mean, and there are no built-in tools",
    ),
]
Items = Annotated[list[Item], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]


def _only_functions(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") != "function":
        raise ValueError("a tool is of the type `function`; there are no built-in tools")
    return value


class FunctionTool(FunctionDefinition):
    type: Literal["function"]


Tool = Annotated[FunctionTool, BeforeValidator(_only_functions)]


class FunctionChoice(Request):
    type: Literal["function"]
    name: FunctionName


class TextSchemaFormat(SchemaFormat):
    type: Literal["json_schema"]


AnswerFormat = Annotated[TextFormat | ObjectFormat | TextSchemaFormat, Field(discriminator="type")]


class TextOptions(Request):
    format: AnswerFormat | None = Field(None, description="what the answer is held to")
    verbosity: Any = Field(None, description="of no effect")


class Reasoning(Lenient):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="of models that reason"
    )


Include = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(fail_fast=True, max_length=MAX_METADATA),
]


def _no_background(value: Any) -> Any:
    if value is True:
        raise ValueError("nothing is stored here, so an answer cannot be fetched later; use stream")
    return value


def _no_truncation(value: Any) -> Any:
    if value == "auto":
        raise ValueError("what does not fit is refused and never dropped unseen; shorten the input")
    return value


class ResponsesRequest(Request):
    model: Ref | None = Field(
        None, description="id or name, `@N` for a revision; left out: the default model"
    )
    input: Text | Items = Field(description="what the user says, or a conversation as items")
    instructions: Text | None = Field(None, description="a system message before the input")
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=MAX_TOOLS), SizeOfTools] | None = Field(
        None, description="what the model may call"
    )
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = Field(
        None, description="whether it may, must, or which"
    )
    parallel_tool_calls: bool | None = Field(None, description="false: one call at most")
    text: TextOptions | None = Field(None, description="of the answer")
    temperature: Temperature | None = Field(None, description="left out: the model's own default")
    top_p: TopP | None = Field(None, description="left out: the model's own default")
    max_output_tokens: MaxTokens | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="with the log-probabilities of so many likelier tokens"
    )
    include: Annotated[list[Include], Field(fail_fast=True, max_length=MAX_INCLUDES)] | None = Field(
        None, description=f"`{LOG_PROBS}`: with the log-probability of each token; others have no effect"
    )
    reasoning: Reasoning | None = Field(None, description="of models that reason")
    metadata: Metadata | None = Field(None, description="given back in the answer")
    stream: bool | None = Field(None, description="answer in server-sent events, as they are made")
    stream_options: StreamOptions | None = Field(None, description="only with stream; of no effect")
    truncation: Annotated[Literal["disabled"], BeforeValidator(_no_truncation)] | None = Field(
        None, description="`disabled`: what is too long is refused"
    )
    store: bool | None = Field(None, description="of no effect: nothing is stored")
    background: Annotated[bool, BeforeValidator(_no_background)] | None = Field(
        None, description="only false"
    )
    previous_response_id: NotStored = Field(None, description="only null: nothing is stored")
    conversation: NotStored = Field(None, description="only null: nothing is stored")
    prompt: NotStored = Field(None, description="only null: there are no stored templates")
    max_tool_calls: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        None, description="of no effect: it is about built-in tools"
    )
    user: Any = Field(None, description="of no effect")
    service_tier: Any = Field(None, description="of no effect")
    safety_identifier: Any = Field(None, description="of no effect")
    prompt_cache_key: Any = Field(None, description="of no effect")
    prompt_cache_retention: Any = Field(None, description="of no effect")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only for stream: true")
        is_forced = self.tool_choice not in (None, "none", "auto")
        if is_forced and not self.tools:
            raise ValueError("tool_choice is only for a request with tools")
        return self

    @property
    def wants_log_probs(self) -> bool:
        return bool(self.top_logprobs) or LOG_PROBS in (self.include or ())


class InputDetails(Answer):
    cached_tokens: int = Field(ge=0, description="found in the cache, from earlier requests of yours")
    cache_write_tokens: int = Field(0, ge=0, description="always 0")


class OutputDetails(Answer):
    reasoning_tokens: int = Field(ge=0, description="of models that reason")


class ResponseUsage(Answer):
    input_tokens: int = Field(ge=0, description="of the prompt")
    input_tokens_details: InputDetails = Field(description="of the prompt's tokens")
    output_tokens: int = Field(ge=0, description="of the answer")
    output_tokens_details: OutputDetails = Field(description="of the answer's tokens")
    total_tokens: int = Field(ge=0)


class ResponseFailure(Answer):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Answer):
    reason: Literal["max_output_tokens"] = Field(description="the answer was cut there")


class Response(Answer):
    """An answer to one request."""

    id: str
    object: Literal["response"]
    created_at: int = Field(description="seconds since 1970, UTC")
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    error: ResponseFailure | None = Field(description="why it failed, in a stream")
    incomplete_details: IncompleteDetails | None = Field(description="why it is not complete")
    model: str = Field(description="the id of the model that answered, with the revision of a private one")
    output: list[dict[str, Any]] = Field(description="items: reasoning, message, function_call")
    usage: ResponseUsage | None
    instructions: str | None = Field(description="as given")
    tools: list[dict[str, Any]] = Field(description="as given")
    tool_choice: str | dict[str, Any] = Field(description="as given")
    parallel_tool_calls: bool = Field(description="as given")
    text: dict[str, Any] = Field(description="as given")
    temperature: float = Field(description="the one that was used")
    top_p: float = Field(description="the one that was used")
    max_output_tokens: int | None = Field(description="as given")
    top_logprobs: int = Field(description="as given")
    reasoning: dict[str, Any] = Field(description="as given")
    metadata: dict[str, str] = Field(description="as given")
    truncation: Literal["disabled"] = Field(description="what is too long is refused")
    store: Literal[False] = Field(description="nothing is stored")
    background: Literal[False] = Field(description="nothing is stored")
    previous_response_id: None = Field(description="nothing is stored")
