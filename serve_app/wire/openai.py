"""What OpenAI's clients send, as far as it is taken: what is not named here is refused, with its name.

vLLM knows more fields. Some of them reach the engine or its files, the chat template, the cache or another
user's place in the queue, so the list below is of what may come in, not of what may not. Fields that OpenAI
defines and that mean nothing here are taken and change nothing. The values are checked here where a wrong
one would cost something; vLLM checks the rest.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from serve_app.wire.base import Ref, Request, Text
from serve_app.wire.generate import MAX_MESSAGES, MAX_SAMPLES, MAX_STOPS, MaxTokens, StopText
from serve_app.wire.models import Temperature, TopP
from serve_app.wire.openai_formats import NamedTool, ResponseFormat, SizeOfTools, StructuredOutputs, Tool
from serve_app.wire.openai_turns import ChatTurn, check_arguments, num_characters
from serve_app.wire.refused_fields import refused, without_refused
from serve_app.wire.template_values import TemplateValues

MAX_PROMPTS = 64
MAX_PROMPT_TOKENS = 2**20
MAX_TOOLS = 128
MAX_BIASES = 1024
MAX_STOP_TOKENS = 64

Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Stop = StopText | Annotated[list[StopText], Field(fail_fast=True, max_length=MAX_STOPS)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}$", max_length=9)]
LogitBias = Annotated[
    dict[TokenKey, Annotated[float, Field(ge=-100, le=100)]], Field(fail_fast=True, max_length=MAX_BIASES)
]
StopTokens = Annotated[list[TokenId], Field(fail_fast=True, max_length=MAX_STOP_TOKENS)]

WITHOUT_MEANING = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "verbosity",
)  # fmt: skip
"""Of OpenAI's fields: taken from any client, and of no effect."""
OF_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
"""Fields that mean something where there are tools."""


class StreamOptions(Request):
    include_usage: bool = Field(False, description="a last chunk with the usage of the whole request")
    continuous_usage_stats: bool | None = Field(
        None, description="every chunk has the usage so far; only with include_usage"
    )
    include_obfuscation: bool | None = Field(None, description="of no effect")


class Sampling(Request):
    """What chat and text completions have in common."""

    model: Ref | None = Field(
        None, description="id or name, `@N` for a revision; left out or empty: the default model"
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
    structured_outputs: StructuredOutputs | None = Field(
        None, description="in the place of response_format; not OpenAI's"
    )
    ignore_eos: bool | None = Field(
        None, description="go on after the model has ended its answer, up to max_tokens; not OpenAI's"
    )
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="before which the model does not end its answer; not OpenAI's"
    )
    stop_token_ids: StopTokens | None = Field(
        None, description="tokens that end an answer, by their ids; not OpenAI's"
    )
    include_stop_str_in_output: bool | None = Field(
        None, description="an answer that `stop` ended has the text that ended it; not OpenAI's"
    )
    skip_special_tokens: bool | None = Field(
        None, description="false: control tokens are part of an answer's text; not OpenAI's"
    )
    add_special_tokens: bool | None = Field(
        None, description="whether the tokenizer adds its own before a prompt; not OpenAI's"
    )
    return_token_ids: bool | None = Field(
        None,
        description="with `prompt_token_ids`, and `token_ids` and `stop_reason` of each choice; not OpenAI's",
    )
    return_tokens_as_token_ids: bool | None = Field(
        None, description="tokens in logprobs are named `token_id:N`; not OpenAI's"
    )
    best_of: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] | None = Field(
        None, description="only as many as n, all of which are returned"
    )
    user: Any = Field(None, description="of no effect")
    metadata: Any = Field(None, description="of no effect")
    store: Any = Field(None, description="of no effect")
    service_tier: Any = Field(None, description="of no effect")
    safety_identifier: Any = Field(None, description="of no effect")
    prompt_cache_key: Any = Field(None, description="of no effect")
    prompt_cache_retention: Any = Field(None, description="of no effect")
    verbosity: Any = Field(None, description="of no effect")

    @model_validator(mode="before")
    @classmethod
    def _without_refused(cls, body: Any) -> Any:
        return without_refused(body, cls.model_fields)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise refused("stream_options", "stream_options is only for stream: true")
        if self.best_of not in (None, self.n or 1):
            raise refused("best_of", "it can only be as many as n: all choices that are made are returned")
        if self.structured_outputs is not None and self.is_held_by_format():
            raise refused("structured_outputs", "response_format says already what the answer is held to")
        for field in ("ignore_eos", "min_tokens"):
            if getattr(self, field) and self.is_held():
                raise refused(field, "an answer that is held to a form ends where the form does")
        return self

    def is_held_by_format(self) -> bool:
        return self.response_format is not None and self.response_format.type != "text"

    def is_held(self) -> bool:
        """Whether the model is not free in what it answers."""
        return self.structured_outputs is not None or self.is_held_by_format()

    def body(self) -> dict[str, Any]:
        """What vLLM is asked: the fields that were given and mean something."""
        given = self.model_dump(
            exclude_none=True, by_alias=True, exclude={"model", "best_of", *WITHOUT_MEANING}
        )
        if options := given.get("stream_options"):
            options.pop("include_obfuscation", None)
        if self.seed is not None:
            given["seed"] = self.seed % 2**63  # vLLM takes -1 for no seed, also as that of a later choice
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
    chat_template_kwargs: TemplateValues | None = Field(
        None, description="what the model's template offers to set, such as enable_thinking; not OpenAI's"
    )
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True, max_length=16)] | None = Field(
        None, description="of no effect"
    )

    @model_validator(mode="after")
    def _chat_goes_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise refused("top_logprobs", "top_logprobs is only for logprobs: true")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise refused("tool_choice", "tool_choice is only for a request with tools")
        if self.structured_outputs is not None and self.may_call():
            raise refused("structured_outputs", "it is only for a request without tools")
        check_arguments(self.messages)
        return self

    def may_call(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    def is_held(self) -> bool:
        return self.may_call() or super().is_held()

    def num_characters(self) -> int:
        return sum(map(num_characters, self.messages))

    def body(self) -> dict[str, Any]:
        given = super().body()
        given.pop("modalities", None)
        if not self.tools:
            given = {field: value for field, value in given.items() if field not in OF_TOOLS}
        for message in given["messages"]:
            if message["role"] == "developer":  # a system message, by its newer name
                message["role"] = "system"
            elif message["role"] == "assistant":
                _say_something(message)
        return given


def _say_something(turn: dict[str, Any]) -> None:
    """A turn of the model without content or calls is what it said instead, or empty."""
    refusal = turn.pop("refusal", "")
    if not turn.get("tool_calls"):
        turn.pop("tool_calls", None)
        turn.setdefault("content", refusal)


PromptTokens = Annotated[list[TokenId], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPT_TOKENS)]
Prompt = (
    Text
    | Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
    | PromptTokens
    | Annotated[list[PromptTokens], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
)


class CompletionRequest(Sampling):
    prompt: Prompt = Field(
        description="a text, or the ids of its tokens, or up to 64 of either; it is the model's whole input: "
        "what spells a control token in it is that token"
    )
    max_tokens: MaxTokens | None = Field(None, description="left out: 16")
    echo: bool | None = Field(None, description="with the prompt before the answer")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="with the log-probabilities of so many likeliest tokens"
    )

    def num_characters(self) -> int:
        """Of the longest prompt, where they are texts."""
        return max((len(prompt) for prompt in self.prompts() if isinstance(prompt, str)), default=0)

    def prompts(self) -> Sequence[str | list[int]]:
        """Each is answered by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt
