"""Requests with tools that a template does not show, and the finish reasons of answers."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from registry.errors import InvalidRequest
from serve_app.model_server.tool_calls import check_tools, settle, settle_event
from training.chat_template import ToolSupport

PAINT = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}}}


def choice_of(finish_reason: str, stop_reason: Any, calls: Any) -> Any:
    message = SimpleNamespace(tool_calls=calls)
    return SimpleNamespace(index=0, finish_reason=finish_reason, stop_reason=stop_reason, message=message)


@pytest.mark.parametrize(
    ("engines", "stop_reason", "calls", "expected"),
    [
        ("stop", None, ["call"], "tool_calls"),
        ("length", None, ["call"], "length"),
        ("stop", "\n\n", ["call"], "stop"),
        ("stop", None, [], "stop"),
    ],
)
def test_calls_are_the_reason_where_the_model_ended_by_itself(
    engines: str, stop_reason: Any, calls: Any, expected: str
) -> None:
    choice = choice_of("tool_calls", stop_reason, calls)
    settle(SimpleNamespace(choices=[choice]), {0: engines})
    assert choice.finish_reason == expected


def test_reason_in_a_stream_is_the_same() -> None:
    def event(**choice: Any) -> str:
        chunk = {"id": "x", "choices": [{"index": 0, "delta": {}, **choice}]}
        return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n"

    by_itself = event(finish_reason="tool_calls", stop_reason=None)
    assert settle_event(by_itself) == by_itself
    by_text = event(finish_reason="tool_calls", stop_reason="END")
    assert settle_event(by_text) == event(finish_reason="stop", stop_reason="END")
    for other in ("data: [DONE]\n\n", event(finish_reason="length", stop_reason=None)):
        assert settle_event(other) == other


ASKED = {"role": "user", "content": "x"}
CALLING = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "x"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [ASKED], "tools": [PAINT]}, "tools"),
        ({"messages": [ASKED, CALLING]}, "messages.1.tool_calls"),
        ({"messages": [ASKED, RESULT]}, "messages.1.role"),
    ],
)
def test_what_the_template_drops_is_refused(body: dict[str, Any], param: str) -> None:
    check_tools(body, ToolSupport(), "base")
    with pytest.raises(InvalidRequest, match="chat template of base does not show") as error:
        check_tools(body, ToolSupport(tools=False, calls=False, results=False), "base")
    assert error.value.param == param


def test_conversation_without_tools_needs_no_support() -> None:
    check_tools({"messages": [ASKED], "tools": []}, ToolSupport(False, False, False), "base")
    check_tools({"prompt": "x"}, ToolSupport(False, False, False), "base")
