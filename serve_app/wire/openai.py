"""Requests of OpenAI's clients for chat and completions. Fields that are not listed here are refused by name.

vLLM knows more fields. Some of them reach the engine or its files, the chat template, the cache or another
user's place in the queue. Therefore this file lists the accepted fields, not the refused ones. Fields of
OpenAI's API that have no meaning here are accepted without effect. Values are checked here if a wrong one
would be costly; vLLM checks the rest.
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
"""Fields of OpenAI's API that are accepted without effect."""
OF_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
"""Fields that only have a meaning in a request with tools."""


class StreamOptions(Request):
    include_usage: bool = Field(False, description="send a last chunk with the usage of the whole request")
    continuous_usage_stats: bool | None = Field(
        None, description="send the usage so far with every chunk; only with include_usage"
    )
    include_obfuscation: bool | None = Field(None, description="no effect")


class Sampling(Request):
    """The fields that chat and text completions have in common."""

    model: Ref | None = Field(
        None, description="id or name of the model, with `@N` for revision N; empty: the default model"
    )
    frequency_penalty: Penalty | None = Field(
        None, description="penalty for tokens by the number of times that they occurred"
    )
    presence_penalty: Penalty | None = Field(None, description="penalty for tokens that occurred before")
    logit_bias: LogitBias | None = Field(None, description="numbers to add to logits, by token id")
    n: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] | None = Field(None, description="number of choices")
    response_format: ResponseFormat | None = Field(None, description="form that the answer must have")
    seed: Seed | None = Field(None, description="the same request with the same seed gets the same choices")
    stop: Stop | None = Field(None, description="one text, or up to 16 texts, that end an answer")
    stream: bool | None = Field(None, description="answer in server-sent events while text is generated")
    stream_options: StreamOptions | None = Field(None, description="only with stream")
    temperature: Temperature | None = Field(None, description="default: the default of the model")
    top_p: TopP | None = Field(None, description="default: the default of the model")
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = Field(
        None, description="sample only from this number of most likely tokens; an extension of vLLM"
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="smallest probability of a token, relative to the most likely one; an extension of vLLM",
    )
    repetition_penalty: Annotated[float, Field(ge=0.01, le=2)] | None = Field(
        None, description="above 1: penalty for tokens that occurred before; an extension of vLLM"
    )
    structured_outputs: StructuredOutputs | None = Field(
        None, description="replaces response_format; an extension of vLLM"
    )
    ignore_eos: bool | None = Field(
        None, description="generate up to max_tokens, past the end of the answer; an extension of vLLM"
    )
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="smallest number of tokens in an answer; an extension of vLLM"
    )
    stop_token_ids: StopTokens | None = Field(
        None, description="ids of tokens that end an answer; an extension of vLLM"
    )
    include_stop_str_in_output: bool | None = Field(
        None, description="an answer that `stop` ends contains the text that ended it; an extension of vLLM"
    )
    skip_special_tokens: bool | None = Field(
        None, description="false: the text of an answer shows control tokens; an extension of vLLM"
    )
    add_special_tokens: bool | None = Field(
        None, description="let the tokenizer add its control tokens to a prompt; an extension of vLLM"
    )
    return_token_ids: bool | None = Field(
        None,
        description="add `prompt_token_ids`, and `token_ids` and `stop_reason` of each choice; "
        "an extension of vLLM",
    )
    return_tokens_as_token_ids: bool | None = Field(
        None, description="logprobs name tokens as `token_id:N`; an extension of vLLM"
    )
    best_of: Annotated[int, Field(ge=1, le=MAX_SAMPLES)] | None = Field(
        None, description="must be equal to n, because all choices are returned"
    )
    user: Any = Field(None, description="no effect")
    metadata: Any = Field(None, description="no effect")
    store: Any = Field(None, description="no effect")
    service_tier: Any = Field(None, description="no effect")
    safety_identifier: Any = Field(None, description="no effect")
    prompt_cache_key: Any = Field(None, description="no effect")
    prompt_cache_retention: Any = Field(None, description="no effect")
    verbosity: Any = Field(None, description="no effect")

    @model_validator(mode="before")
    @classmethod
    def _without_refused(cls, body: Any) -> Any:
        return without_refused(body, cls.model_fields)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise refused("stream_options", "stream_options is only for stream: true")
        if self.best_of not in (None, self.n or 1):
            raise refused("best_of", "`best_of` must be equal to `n`")
        if self.structured_outputs is not None and self.has_response_format():
            raise refused("structured_outputs", "give `response_format` or `structured_outputs`, not both")
        for field in ("ignore_eos", "min_tokens"):
            if getattr(self, field) and self.has_required_form():
                raise refused(
                    field, f"`{field}` cannot be used together with tools or a required form of the answer"
                )
        return self

    def has_response_format(self) -> bool:
        return self.response_format is not None and self.response_format.type != "text"

    def has_required_form(self) -> bool:
        """Returns True if the answer must have a certain form."""
        return self.structured_outputs is not None or self.has_response_format()

    def body(self) -> dict[str, Any]:
        """Returns the request for vLLM: the fields that were given and have an effect."""
        given = self.model_dump(
            exclude_none=True, by_alias=True, exclude={"model", "best_of", *WITHOUT_MEANING}
        )
        if options := given.get("stream_options"):
            options.pop("include_obfuscation", None)
        if self.seed is not None:
            given["seed"] = self.seed % 2**63  # vLLM reads -1 as no seed, also if it is a later choice's seed
        return given


class ChatCompletionRequest(Sampling):
    messages: Annotated[list[ChatTurn], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: MaxTokens | None = Field(None, description="older name of max_completion_tokens")
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = Field(None, description="add the log-probability of each token")
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="number of most likely tokens to add at each position; needs logprobs"
    )
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=MAX_TOOLS), SizeOfTools] | None = Field(
        None, description="tools that the model may call; an empty list means none"
    )
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = Field(
        None,
        description="`none`: no calls; `auto`: calls are possible; `required`: a call; or the tool to call",
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="effort of models that reason"
    )
    chat_template_kwargs: TemplateValues | None = Field(
        None, description="values for the model's template, such as enable_thinking; an extension of vLLM"
    )
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True, max_length=16)] | None = Field(
        None, description="no effect"
    )

    @model_validator(mode="after")
    def _chat_goes_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise refused("top_logprobs", "top_logprobs is only for logprobs: true")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise refused("tool_choice", "tool_choice is only for a request with tools")
        if self.structured_outputs is not None and self.may_call():
            raise refused("structured_outputs", "`structured_outputs` cannot be used together with `tools`")
        check_arguments(self.messages)
        return self

    def may_call(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    def has_required_form(self) -> bool:
        return self.may_call() or super().has_required_form()

    def num_characters(self) -> int:
        return sum(map(num_characters, self.messages))

    def body(self) -> dict[str, Any]:
        given = super().body()
        given.pop("modalities", None)
        if not self.tools:
            given = {field: value for field, value in given.items() if field not in OF_TOOLS}
        for message in given["messages"]:
            if message["role"] == "developer":  # the newer name of a system message
                message["role"] = "system"
            elif message["role"] == "assistant":
                _say_something(message)
        return given


def _say_something(turn: dict[str, Any]) -> None:
    """Gives a turn of the model without content and calls a content: its refusal, or an empty text."""
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
        description="a text or a list of token ids, or up to 64 of either; each is the model's whole input: "
        "the spelling of a control token in it is that token"
    )
    max_tokens: MaxTokens | None = Field(None, description="default: 16")
    echo: bool | None = Field(None, description="put the prompt before the answer")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="number of most likely tokens whose log-probabilities are added"
    )

    def num_characters(self) -> int:
        """Returns the length of the longest prompt that is a text."""
        return max((len(prompt) for prompt in self.prompts() if isinstance(prompt, str)), default=0)

    def prompts(self) -> Sequence[str | list[int]]:
        """Returns the prompts. Each of them is answered separately."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt
