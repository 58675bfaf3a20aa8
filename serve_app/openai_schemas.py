"""What OpenAI's clients send, as far as it is taken: what is not named here is refused, with its name.

vLLM knows more fields. Some of them reach the engine or its files, the chat template, the cache or another
user's place in the queue, so the list below is of what may come in, not of what may not. Fields that OpenAI
defines and that mean nothing here are taken and change nothing. The values are checked here where a wrong
one would cost something; vLLM checks the rest.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from serve_app.openai_formats import NamedTool, ResponseFormat, SizeOfTools, Tool
from serve_app.openai_turns import ChatTurn, num_characters
from serve_app.schemas import (
    MAX_MESSAGES,
    MAX_SAMPLES,
    MAX_STOPS,
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
MAX_BIASES = 1024

Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Stop = StopText | Annotated[list[StopText], Field(fail_fast=True, max_length=MAX_STOPS)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}$", max_length=9)]
LogitBias = Annotated[
    dict[TokenKey, Annotated[float, Field(ge=-100, le=100)]], Field(fail_fast=True, max_length=MAX_BIASES)
]


WITHOUT_MEANING = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "verbosity",
)  # fmt: skip
"""Of OpenAI's fields: taken from any client, and of no effect."""


class StreamOptions(Request):
    include_usage: bool = Field(False, description="a last chunk with the usage of the whole request")
    include_obfuscation: bool | None = Field(None, description="of no effect")


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
    tools: (
        Annotated[list[Tool], Field(fail_fast=True, min_length=1, max_length=MAX_TOOLS), SizeOfTools] | None
    ) = Field(None, description="what the model may call")
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
        if self.tool_choice not in (None, "none") and not self.tools:
            raise ValueError("tool_choice is only for a request with tools")
        return self

    def num_characters(self) -> int:
        return sum(num_characters(message.content) for message in self.messages)

    def body(self) -> dict[str, Any]:
        given = super().body()
        given.pop("modalities", None)
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
