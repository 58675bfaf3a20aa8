"""The earlier tool calls that a conversation in OpenAI's form may contain."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.wire.openai import ChatCompletionRequest
from serve_app.wire.openai_turns import MAX_ARGUMENT_DEPTH, MAX_ARGUMENT_VALUES

USER = {"role": "user", "content": "Hi."}


def request(*arguments: str) -> ChatCompletionRequest:
    """A request with one call of a tool for each of `arguments`."""
    calls = [{"id": str(n), "function": {"name": "f", "arguments": a}} for n, a in enumerate(arguments)]
    turn = {"role": "assistant", "content": None, "tool_calls": calls}
    return ChatCompletionRequest.model_validate({"messages": [USER, turn, USER]})


@pytest.mark.parametrize(
    "arguments", ["", "{}", '{"text": "' + "[{," * 10**5 + '"}', json.dumps({"a": [1] * 999})]
)
def test_arguments_of_calls_are_objects(arguments: str) -> None:
    assert request(arguments).num_characters() >= len(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        "[]",
        "1",
        '{"cut": "of',
        '{"a": 1' + "0" * 5000 + "}",
        '{"a": [' + "{}," * MAX_ARGUMENT_VALUES + "1]}",
        '{"a":' + "[" * MAX_ARGUMENT_DEPTH + "]" * MAX_ARGUMENT_DEPTH + "}",
        '{"a":' + "[" * 10**5 + "]" * 10**5 + "}",
    ],
)
def test_other_arguments_are_refused_at_their_place(arguments: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        request("{}", arguments)
    (error,) = refusal.value.errors()
    assert error["loc"] == ("messages", 1, "tool_calls", 1, "function", "arguments")
    assert "sys." not in error["msg"]


def test_arguments_of_all_calls_are_counted_together() -> None:
    half: dict[str, Any] = {"a": [1] * (MAX_ARGUMENT_VALUES // 2)}
    request(json.dumps(half))
    with pytest.raises(ValidationError, match="together"):
        request(json.dumps(half), json.dumps(half))
