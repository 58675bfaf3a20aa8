"""Requests and answers of OpenAI's Responses API.

Responses are not stored. An answer depends only on its request, and fields that refer to an earlier response
are refused by name. There are no built-in tools. The parts that chat has too are in `openai_formats`.
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
    """Returns a validator for a field that can only be null."""

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
    refusal: Text = Field(description="replaces text")

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
    call_id: Label = Field(description="id that the result of the call refers to")
    name: FunctionName
    arguments: Text = Field(description="JSON object as a text")


class FunctionCallOutputItem(Lenient):
    type: Literal["function_call_output"]
    call_id: Label = Field(description="`call_id` of the call that has this result")
    output: Content = Field(description="result as a text")


class ReasoningItem(Lenient):
    """The reasoning of an earlier answer. It is accepted and ignored, as chat templates ignore it too."""

    type: Literal["reasoning"]


def _kind_of_item(value: Any) -> str | None:
    """Returns the type of an item. An item without a type is a message."""
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
        custom_error_message="an item must be a message, function_call, function_call_output or reasoning; "
        "`item_reference` is not supported, because nothing is stored, and there are no built-in tools",
    ),
]
Items = Annotated[list[Item], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]


def _only_functions(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") != "function":
        raise ValueError("a tool must be of the type `function`; there are no built-in tools")
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
    format: AnswerFormat | None = Field(None, description="form that the answer must have")
    verbosity: Any = Field(None, description="no effect")


class Reasoning(Lenient):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="effort of models that reason"
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
        raise ValueError("`truncation: auto` is not supported; shorten the input")
    return value


class ResponsesRequest(Request):
    model: Ref | None = Field(
        None, description="id or name of the model, with `@N` for revision N; empty: the default model"
    )
    input: Text | Items = Field(description="text of the user, or a conversation as items")
    instructions: Text | None = Field(None, description="system message before the input")
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=MAX_TOOLS), SizeOfTools] | None = Field(
        None, description="tools that the model may call"
    )
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = Field(
        None,
        description="`none`: no calls; `auto`: calls are possible; `required`: a call; or the tool to call",
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call")
    text: TextOptions | None = Field(None, description="options of the answer's text")
    temperature: Temperature | None = Field(None, description="default: the default of the model")
    top_p: TopP | None = Field(None, description="default: the default of the model")
    max_output_tokens: MaxTokens | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="number of most likely tokens to add at each position, with log-probabilities"
    )
    include: Annotated[list[Include], Field(fail_fast=True, max_length=MAX_INCLUDES)] | None = Field(
        None, description=f"`{LOG_PROBS}`: add the log-probability of each token; others have no effect"
    )
    reasoning: Reasoning | None = Field(None, description="options of models that reason")
    metadata: Metadata | None = Field(None, description="copied to the answer")
    stream: bool | None = Field(None, description="answer in server-sent events while text is generated")
    stream_options: StreamOptions | None = Field(None, description="only with stream; no effect")
    truncation: Annotated[Literal["disabled"], BeforeValidator(_no_truncation)] | None = Field(
        None, description="only `disabled`: an input that is too long is refused"
    )
    store: bool | None = Field(None, description="no effect: responses are not stored")
    background: Annotated[bool, BeforeValidator(_no_background)] | None = Field(
        None, description="only false: responses are not stored"
    )
    previous_response_id: NotStored = Field(None, description="only null: responses are not stored")
    conversation: NotStored = Field(None, description="only null: conversations are not stored")
    prompt: NotStored = Field(None, description="only null: there are no stored templates")
    max_tool_calls: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        None, description="no effect: there are no built-in tools"
    )
    user: Any = Field(None, description="no effect")
    service_tier: Any = Field(None, description="no effect")
    safety_identifier: Any = Field(None, description="no effect")
    prompt_cache_key: Any = Field(None, description="no effect")
    prompt_cache_retention: Any = Field(None, description="no effect")

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
    cached_tokens: int = Field(ge=0, description="tokens found in the cache of your earlier requests")
    cache_write_tokens: int = Field(0, ge=0, description="always 0")


class OutputDetails(Answer):
    reasoning_tokens: int = Field(ge=0, description="number of tokens of the reasoning")


class ResponseUsage(Answer):
    input_tokens: int = Field(ge=0, description="number of tokens of the prompt")
    input_tokens_details: InputDetails = Field(description="details of the prompt's tokens")
    output_tokens: int = Field(ge=0, description="number of tokens of the answer")
    output_tokens_details: OutputDetails = Field(description="details of the answer's tokens")
    total_tokens: int = Field(ge=0)


class ResponseFailure(Answer):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Answer):
    reason: Literal["max_output_tokens"] = Field(description="limit that cut the answer")


class Response(Answer):
    """The answer to one request."""

    id: str
    object: Literal["response"]
    created_at: int = Field(description="seconds since 1970, UTC")
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    error: ResponseFailure | None = Field(description="reason why the response failed; only in a stream")
    incomplete_details: IncompleteDetails | None = Field(description="reason why the answer is not complete")
    model: str = Field(description="the id of the model that answered, with the revision of a private one")
    output: list[dict[str, Any]] = Field(description="items: reasoning, message, function_call")
    usage: ResponseUsage | None
    instructions: str | None = Field(description="value of the request")
    tools: list[dict[str, Any]] = Field(description="value of the request")
    tool_choice: str | dict[str, Any] = Field(description="value of the request")
    parallel_tool_calls: bool = Field(description="value of the request")
    text: dict[str, Any] = Field(description="value of the request")
    temperature: float = Field(description="temperature that was used")
    top_p: float = Field(description="top_p that was used")
    max_output_tokens: int | None = Field(description="value of the request")
    top_logprobs: int = Field(description="value of the request")
    reasoning: dict[str, Any] = Field(description="value of the request")
    metadata: dict[str, str] = Field(description="value of the request")
    truncation: Literal["disabled"] = Field(description="an input that is too long is refused")
    store: Literal[False] = Field(description="responses are not stored")
    background: Literal[False] = Field(description="responses are not stored")
    previous_response_id: None = Field(description="responses are not stored")
