"""What OpenAI's clients send, as far as it is taken: what is not named here is refused, with its name.

vLLM knows more fields. Some of them reach the engine or its files, the chat template, the cache or another
user's place in the queue, so the list below is of what may come in, not of what may not. Fields that OpenAI
defines and that mean nothing here are taken and change nothing. The values are checked here where a wrong
one would cost something; vLLM checks the rest.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from serve_app.json_schemas import (
    MAX_TOOLS_BYTES,
    RefusedSchema,
    check_parameters,
    check_schema,
    check_size,
)
from serve_app.schemas import (
    MAX_MESSAGES,
    MAX_SAMPLES,
    MAX_STOPS,
    Answer,
    MaxTokens,
    Ref,
    Request,
    StopText,
    Temperature,
    Text,
    TopP,
)

MAX_PROMPTS = 64
MAX_PROMPT_TOKENS = 2**20
MAX_TOOLS = 128
MAX_TOOL_CALLS = 128
MAX_PARTS = 1024
MAX_BIASES = 1024

Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Stop = StopText | Annotated[list[StopText], Field(fail_fast=True, max_length=MAX_STOPS)]
Label = Annotated[str, Field(max_length=512)]
"""What a client calls something by: a tool call, a speaker."""
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}$", max_length=9)]
LogitBias = Annotated[
    dict[TokenKey, Annotated[float, Field(ge=-100, le=100)]], Field(fail_fast=True, max_length=MAX_BIASES)
]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$", max_length=64)]


def _checked(check: Callable[[Any], None]) -> Callable[[Any], Any]:
    """A validator whose error is at the place inside the value that `check` names."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except RefusedSchema as error:
            reason = PydanticCustomError("json_schema", "{reason}", {"reason": error.message})
            at = InitErrorDetails(type=reason, loc=error.path, input=None)
            raise ValidationError.from_exception_data("JSON Schema", [at]) from None
        return value

    return validate


JsonSchema = Annotated[dict[str, Any], AfterValidator(_checked(check_schema))]
ParametersSchema = Annotated[dict[str, Any], AfterValidator(_checked(check_parameters))]
SizeOfTools = BeforeValidator(_checked(lambda tools: check_size(tools, MAX_TOOLS_BYTES)))

WITHOUT_MEANING = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "verbosity",
)  # fmt: skip
"""Of OpenAI's fields: taken from any client, and of no effect."""


class Lenient(BaseModel):
    """A part of a conversation: clients send back what they got, with the fields of other services in it."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, frozen=True)


class TextPart(Lenient):
    type: Literal["text", "refusal"]
    text: Text = ""
    refusal: Text | None = Field(None, description="instead of text, when the type is `refusal`")


def _num_characters(content: str | list[TextPart] | None) -> int:
    if content is None or isinstance(content, str):
        return len(content or "")
    return sum(len(part.text) + len(part.refusal or "") for part in content)


Content = Text | Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MAX_PARTS)]


class CalledFunction(Lenient):
    name: FunctionName
    arguments: Text = Field(description="a JSON object, as text")


class ToolCall(Lenient):
    id: Label
    type: Literal["function"] = "function"
    function: CalledFunction


class GivenMessage(Lenient):
    """From the system, the developer or the user."""

    role: Literal["system", "developer", "user"]
    content: Content
    name: Label | None = None


class AssistantTurn(Lenient):
    role: Literal["assistant"]
    content: Content | None = None
    name: Label | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_TOOL_CALLS)] | None = Field(
        None, description="the tools that the model asked for"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("an assistant's message has content or tool_calls")
        return self


class ToolResult(Lenient):
    role: Literal["tool"]
    content: Content
    tool_call_id: Label = Field(description="the `id` of the call that this is the result of")


ChatTurn = Annotated[GivenMessage | AssistantTurn | ToolResult, Field(discriminator="role")]


class StreamOptions(Request):
    include_usage: bool = Field(False, description="a last chunk with the usage of the whole request")
    include_obfuscation: bool | None = Field(None, description="of no effect")


class FunctionDefinition(Request):
    name: FunctionName
    description: Text | None = None
    parameters: ParametersSchema | None = Field(None, description="JSON Schema of the arguments")
    strict: bool | None = Field(None, description="the arguments are held to the schema anyway")


class Tool(Request):
    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Request):
    name: FunctionName


class NamedTool(Request):
    type: Literal["function"]
    function: NamedFunction


class AnyFormat(Request):
    type: Literal["text", "json_object"]


class SchemaFormat(Request):
    name: FunctionName
    description: Text | None = None
    schema_: JsonSchema = Field(alias="schema", description="JSON Schema of the answer")
    strict: bool | None = Field(None, description="the answer is held to the schema anyway")


class JsonSchemaFormat(Request):
    type: Literal["json_schema"]
    json_schema: SchemaFormat


ResponseFormat = Annotated[AnyFormat | JsonSchemaFormat, Field(discriminator="type")]


class Sampling(Request):
    """What chat and text completions have in common."""

    model: Ref | None = Field(
        None, description="id or name, `@N` for a revision; left out: the default model"
    )
    frequency_penalty: Penalty | None = Field(None, description="against tokens, by how often they came")
    presence_penalty: Penalty | None = Field(None, description="against tokens that came at all")
    logit_bias: LogitBias | None = Field(
        None, description="what is added to the logits of tokens, by the token's id"
    )
    n: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] | None = Field(None, description="number of choices")
    response_format: ResponseFormat | None = Field(None, description="what the answer is held to")
    seed: Seed | None = Field(None, description="the same seed makes the same choices of the same request")
    stop: Stop | None = Field(None, description="one or up to 16 texts that end an answer")
    stream: bool | None = Field(None, description="answer in server-sent events, as they are made")
    stream_options: StreamOptions | None = Field(None, description="only with stream")
    temperature: Temperature | None = Field(None, description="left out: the model's own default")
    top_p: TopP | None = Field(None, description="left out: the model's own default")
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = Field(None, description="not OpenAI's")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="not OpenAI's")
    repetition_penalty: Annotated[float, Field(ge=0.01, le=2)] | None = Field(
        None, description="not OpenAI's"
    )
    user: Any = Field(None, description="of no effect")
    metadata: Any = Field(None, description="of no effect")
    store: Any = Field(None, description="of no effect")
    service_tier: Any = Field(None, description="of no effect")
    safety_identifier: Any = Field(None, description="of no effect")
    prompt_cache_key: Any = Field(None, description="of no effect")
    prompt_cache_retention: Any = Field(None, description="of no effect")
    verbosity: Any = Field(None, description="of no effect")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only for stream: true")
        if self.temperature == 0 and (self.n or 1) > 1:
            raise ValueError("n must be 1 when temperature is 0: all samples would be the same")
        return self

    def body(self) -> dict[str, Any]:
        """What vLLM is asked: the fields that were given and mean something."""
        given = self.model_dump(exclude_none=True, by_alias=True, exclude={"model", *WITHOUT_MEANING})
        if options := given.get("stream_options"):
            options.pop("include_obfuscation", None)
        return given


class ChatCompletionRequest(Sampling):
    messages: Annotated[list[ChatTurn], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: MaxTokens | None = Field(None, description="the older name of max_completion_tokens")
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = Field(None, description="with the log-probability of each token")
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="with those of so many likelier tokens; needs logprobs"
    )
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=MAX_TOOLS), SizeOfTools] | None = Field(
        None, description="what the model may call; an empty list is as none"
    )
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = Field(
        None, description="whether it may, must, or which"
    )
    parallel_tool_calls: bool | None = Field(None, description="false: one call at most")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="of models that reason"
    )
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True, max_length=16)] | None = Field(
        None, description="of no effect"
    )

    @model_validator(mode="after")
    def _chat_goes_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is only for logprobs: true")
        is_forced = self.tool_choice not in (None, "none", "auto")
        if (is_forced and not self.tools) or (self.tool_choice == "auto" and self.tools is None):
            raise ValueError("tool_choice is only for a request with tools")
        return self

    def num_characters(self) -> int:
        return sum(_num_characters(message.content) for message in self.messages)

    def body(self) -> dict[str, Any]:
        given = super().body()
        given.pop("modalities", None)
        if not self.tools:
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                given.pop(name, None)
        for message in given["messages"]:
            if message["role"] == "developer":  # a system message, by its newer name
                message["role"] = "system"
        return given


Prompt = (
    Text
    | Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
    | Annotated[list[TokenId], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPT_TOKENS)]
)


class CompletionRequest(Sampling):
    prompt: Prompt = Field(description="a text, up to 64 texts, or the ids of a text's tokens")
    max_tokens: MaxTokens | None = Field(None, description="left out: 16")
    echo: bool | None = Field(None, description="with the prompt before the answer")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="with the log-probabilities of so many likeliest tokens"
    )

    def num_characters(self) -> int:
        """Of the longest prompt, where they are texts."""
        return max((len(prompt) for prompt in self.prompts() if isinstance(prompt, str)), default=0)

    def prompts(self) -> list[str] | list[list[int]]:
        """Each is answered by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt


class OpenAIModel(Answer):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since 1970, UTC")
    owned_by: str = Field(description="`tiger`: a base model; `you`: a private one")


class OpenAIModels(Answer):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class PromptTokens(Answer):
    cached_tokens: int | None = Field(
        None, ge=0, description="found in the cache, from earlier requests of yours"
    )


class Usage(Answer):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)
    prompt_tokens_details: PromptTokens | None = Field(None, description="of the prompt's tokens")


class Choice(Answer):
    index: int
    finish_reason: str | None = Field(description="`stop`, `length` or `tool_calls`")
    logprobs: dict[str, Any] | None = Field(None, description="as OpenAI has them, if they were asked for")


class AnsweredFunction(Answer):
    name: str
    arguments: str = Field(description="a JSON object, as text")


class AnsweredToolCall(Answer):
    id: str
    type: Literal["function"]
    function: AnsweredFunction


class ChatAnswer(Answer):
    role: Literal["assistant"]
    content: str | None
    tool_calls: list[AnsweredToolCall] | None = Field(None, description="the tools that the model asks for")


class ChatChoice(Choice):
    message: ChatAnswer


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="seconds since 1970, UTC")
    model: str = Field(description="the id of the model that answered, with the revision of a private one")
    choices: list[ChatChoice]
    usage: Usage


class TextChoice(Choice):
    text: str


class Completion(Answer):
    id: str
    object: Literal["text_completion"]
    created: int = Field(description="seconds since 1970, UTC")
    model: str = Field(description="the id of the model that answered, with the revision of a private one")
    choices: list[TextChoice]
    usage: Usage
