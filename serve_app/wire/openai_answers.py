"""What the routes below `/openai` answer: as OpenAI has it, made by vLLM; here for the document."""

from typing import Any, Literal

from pydantic import Field

from serve_app.wire.base import Answer


class OpenAIModel(Answer):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since 1970, UTC")
    owned_by: str = Field(description="`tiger`: a base model; `you`: a private one")


class OpenAIModels(Answer):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class DeletedOpenAIModel(Answer):
    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = Field(True, description="it is gone, with all its revisions")


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
    token_ids: list[int] | None = Field(None, description="of the answer; with return_token_ids")
    stop_reason: int | str | None = Field(
        None, description="the text or token of the request that ended it; with return_token_ids"
    )


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
    prompt_token_ids: list[int] | None = Field(None, description="with return_token_ids")
    usage: Usage


class TextChoice(Choice):
    text: str
    prompt_token_ids: list[int] | None = Field(None, description="with return_token_ids")


class Completion(Answer):
    id: str
    object: Literal["text_completion"]
    created: int = Field(description="seconds since 1970, UTC")
    model: str = Field(description="the id of the model that answered, with the revision of a private one")
    choices: list[TextChoice]
    usage: Usage
