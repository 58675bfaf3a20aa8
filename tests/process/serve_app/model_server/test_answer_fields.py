"""Token ids are returned where a request asks for them, and text that looks like a field stays text."""

import json
from typing import Any

import pytest
from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
    ChatMessage,
)
from vllm.entrypoints.openai.completion.protocol import CompletionResponse, CompletionResponseChoice
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from serve_app.model_server.answer_fields import answer_for_client, event_for_client
from serve_app.model_server.calls import OpenAICall

SLY = ',"token_ids":null,\\"stop_reason":"x"'


def call(**body: Any) -> OpenAICall:
    return OpenAICall(kind="chat", user="u", model="m", revision=None, adapter_id=None, body=body)


def chunk(stop_reason: Any) -> str:
    choice = ChatCompletionResponseStreamChoice(
        index=0,
        delta=DeltaMessage(content=SLY),
        finish_reason="stop",
        stop_reason=stop_reason,
        token_ids=[5, 6],
    )
    told = ChatCompletionStreamResponse(model="m", choices=[choice], prompt_token_ids=None, prompt_text=None)
    return f"data: {told.model_dump_json(exclude_unset=True)}\n\n"


def plain(event: str) -> Any:
    return json.loads(event.removeprefix("data: "))


@pytest.mark.parametrize("stop_reason", [None, 7, 'a"b\\', SLY])
def test_chunk_has_tokens_where_asked_for(stop_reason: Any) -> None:
    made = chunk(stop_reason)
    told = plain(event_for_client(made, call(return_token_ids=True)))
    (choice,) = told["choices"]
    assert (choice["token_ids"], choice["stop_reason"]) == ([5, 6], stop_reason)
    assert choice["delta"]["content"] == SLY
    assert "prompt_text" not in told and told["prompt_token_ids"] is None


@pytest.mark.parametrize("stop_reason", [None, 7, 'a"b\\', SLY])
def test_chunk_has_openais_fields_only(stop_reason: Any) -> None:
    made = chunk(stop_reason).replace('"token_ids":[5,6]', '"token_ids":null')  # as without being asked
    told = plain(event_for_client(made, call()))
    assert told["choices"] == [{"index": 0, "delta": {"content": SLY}, "finish_reason": "stop"}]
    assert told.keys() == {"id", "object", "created", "model", "choices"} & told.keys()


def test_answer_has_tokens_where_asked_for() -> None:
    usage = UsageInfo(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    choice = ChatCompletionResponseChoice(
        index=0, message=ChatMessage(role="assistant", content="Hi"), token_ids=[5, 6], stop_reason=7
    )
    chat = ChatCompletionResponse(model="m", choices=[choice], usage=usage, prompt_token_ids=[1])
    asked = json.loads(answer_for_client(chat, call(return_token_ids=True)))
    assert (asked["prompt_token_ids"], asked["choices"][0]["token_ids"]) == ([1], [5, 6])
    assert asked["choices"][0]["stop_reason"] == 7
    plain_answer = json.loads(answer_for_client(chat, call()))
    assert "prompt_token_ids" not in plain_answer
    assert not {"token_ids", "stop_reason", "routed_experts"} & plain_answer["choices"][0].keys()
    one = CompletionResponseChoice(index=0, text="Hi", token_ids=[5], prompt_token_ids=[1])
    text = CompletionResponse(model="m", choices=[one], usage=usage)
    (told,) = json.loads(answer_for_client(text, call(return_token_ids=True)))["choices"]
    assert (told["token_ids"], told["prompt_token_ids"], "prompt_logprobs" in told) == ([5], [1], False)
    (told,) = json.loads(answer_for_client(text, call()))["choices"]
    assert not {"token_ids", "prompt_token_ids"} & told.keys()
