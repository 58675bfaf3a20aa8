"""Answers of the routes below `/openai`, in OpenAI's form.

vLLM makes the answers of chat and completions. Their types are here only for the OpenAPI document.
"""

from typing import Any, Literal

from pydantic import Field

from serve_app.wire.base import Answer


class OpenAIModel(Answer):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since 1970, UTC")
    owned_by: str = Field(description="`tiger`: a base model; `you`: a private model")


class OpenAIModels(Answer):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class DeletedOpenAIModel(Answer):
    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = Field(True, description="the model and all its revisions are deleted")


class PromptTokens(Answer):
    cached_tokens: int | None = Field(
        None, ge=0, description="number of tokens found in the cache of your earlier requests"
    )


class Usage(Answer):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)
    prompt_tokens_details: PromptTokens | None = Field(None, description="details of the prompt's tokens")


class Choice(Answer):
    index: int
    finish_reason: str | None = Field(description="`stop`, `length` or `tool_calls`")
    logprobs: dict[str, Any] | None = Field(None, description="log-probabilities, with logprobs")
    token_ids: list[int] | None = Field(None, description="ids of the answer's tokens; with return_token_ids")
    stop_reason: int | str | None = Field(
        None, description="stop text or stop token that ended the answer; with return_token_ids"
    )


class AnsweredFunction(Answer):
    name: str
    arguments: str = Field(description="JSON object as a text")


class AnsweredToolCall(Answer):
    id: str
    type: Literal["function"]
    function: AnsweredFunction


class ChatAnswer(Answer):
    role: Literal["assistant"]
    content: str | None
    tool_calls: list[AnsweredToolCall] | None = Field(None, description="calls of tools by the model")


class ChatChoice(Choice):
    message: ChatAnswer


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="seconds since 1970, UTC")
    model: str = Field(description="the id of the model that answered, with the revision of a private one")
    choices: list[ChatChoice]
    prompt_token_ids: list[int] | None = Field(None, description="ids of its tokens; with return_token_ids")
    usage: Usage


class TextChoice(Choice):
    text: str
    prompt_token_ids: list[int] | None = Field(None, description="ids of its tokens; with return_token_ids")


class Completion(Answer):
    id: str
    object: Literal["text_completion"]
    created: int = Field(description="seconds since 1970, UTC")
    model: str = Field(description="the id of the model that answered, with the revision of a private one")
    choices: list[TextChoice]
    usage: Usage
