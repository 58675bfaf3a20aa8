"""Requests of the Responses API become chat requests; parts that are not supported are refused by name."""

from typing import Any

import pytest
from pydantic import ValidationError

from registry.errors import InvalidRequest, RateLimited
from serve_app.api.responses.input import ChatForm, chat_form
from serve_app.wire.responses import ResponsesRequest

TOOL = {"type": "function", "name": "paint", "description": "Paints.", "parameters": {"type": "object"}}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "paint", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
SCHEMA = {"type": "object", "properties": {"size": {"type": "integer"}}}
SCHEMA_FORMAT = {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}


def form(input: Any = "Hello", **more: Any) -> ChatForm:
    return chat_form(ResponsesRequest.model_validate({"input": input, **more}))


def body(input: Any = "Hello", **more: Any) -> dict[str, Any]:
    return form(input, **more).request.body()


def messages(input: Any, **more: Any) -> list[Any]:
    found: list[Any] = body(input, **more)["messages"]
    return found


def test_text_is_what_the_user_says() -> None:
    assert messages("Hello") == [{"role": "user", "content": "Hello"}]
    assert messages("Hello", instructions="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert messages("Hello", instructions="") == messages("Hello")


def test_items_are_turns() -> None:
    items = [
        {"role": "developer", "content": [{"type": "input_text", "text": "In English."}]},
        {"type": "message", "role": "user", "content": "Paint.", "status": "completed"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "secret"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes", "annotations": []}],
        },
        CALL,
        {**CALL, "call_id": "c2"},
        RESULT,
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "ok"}]},
        {"role": "user", "content": "And?"},
        CALL,
    ]
    function = {"name": "paint", "arguments": "{}"}
    call = {"id": "c1", "type": "function", "function": function}
    assert messages(items, instructions="Be brief.") == [
        {"role": "system", "content": "Be brief.\n\nIn English."},
        {"role": "user", "content": "Paint."},
        {"role": "assistant", "content": "Yes", "tool_calls": [call, {**call, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "tool", "tool_call_id": "c2", "content": "ok"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "tool_calls": [call]},
    ]


def test_fields_are_those_of_chat() -> None:
    named = {"type": "function", "name": "paint"}
    found = body(
        tools=[TOOL],
        tool_choice=named,
        parallel_tool_calls=False,
        text={"format": SCHEMA_FORMAT, "verbosity": "low"},
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=7,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        top_logprobs=2,
        reasoning={"effort": "low", "summary": "auto"},
        metadata={"a": "b"},
        store=True,
        background=False,
        previous_response_id=None,
        truncation="disabled",
        prompt_cache_key="x",
        stream=True,
    )
    function = {"name": "paint", "description": "Paints.", "parameters": {"type": "object"}}
    answer = {"name": "answer", "schema": SCHEMA, "strict": True}
    assert found == {
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "paint"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": answer},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 7,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert body(text={"format": {"type": "text"}})["response_format"] == {"type": "text"}
    assert "tool_choice" not in body(tools=[], tool_choice="auto")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("previous_response_id", "resp_1", "nothing is stored"),
        ("conversation", "conv_1", "nothing is stored"),
        ("prompt", {"id": "pmpt_1"}, "nothing is stored"),
        ("background", True, "nothing is stored"),
        ("truncation", "auto", "not supported; shorten"),
        ("tools", [{"type": "web_search"}], "no built-in tools"),
        ("tools", [TOOL, {"type": "mcp", "server_label": "x"}], "no built-in tools"),
        ("input", [{"type": "item_reference", "id": "msg_1"}], "nothing is stored"),
        ("input", [{"type": "computer_call_output", "call_id": "1"}], "no built-in tools"),
        ("input", [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input_text"),
        ("input", [], "at least 1 item"),
        ("tool_choice", {"type": "web_search_preview"}, "function"),
        ("include", ["secrets"], "message.output_text.logprobs"),
        ("metadata", {"a": "x" * 513}, "512"),
        ("metadata", {str(number): "x" for number in range(17)}, "16"),
        ("max_output_tokens", 0, "greater than or equal to 1"),
        ("text", {"format": {**SCHEMA_FORMAT, "schema": {"type": "nonsense"}}}, ""),
        ("n", 2, "Extra inputs"),
        ("cache_salt", "x", "Extra inputs"),
    ],
)
def test_refused_by_name(field: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ResponsesRequest.model_validate({"input": "Hello", field: value})
    errors = refused.value.errors()
    assert {error["loc"][0] for error in errors} == {field}
    assert any(words in error["msg"] for error in errors), errors


def test_forced_call_needs_tools() -> None:
    for choice in ("required", {"type": "function", "name": "paint"}):
        with pytest.raises(ValidationError, match="tool_choice"):
            ResponsesRequest.model_validate({"input": "Hello", "tool_choice": choice})


def test_input_without_a_message_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        form([{"type": "reasoning", "summary": []}])
    assert refused.value.param == "input"


@pytest.mark.parametrize(
    ("chats", "ours"),
    [
        (None, None),
        ("model", "model"),
        ("messages", "input"),
        ("messages.0.role", "instructions"),
        ("messages.1.tool_calls", "input.2"),
        ("max_tokens", "max_output_tokens"),
        ("top_logprobs", "top_logprobs"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("tools.3.function.parameters", "tools.3.parameters"),
        ("tools", "tools"),
    ],
)
def test_errors_are_about_the_clients_own_fields(chats: str | None, ours: str | None) -> None:
    items = [{"type": "reasoning"}, {"type": "reasoning"}, CALL, RESULT]
    found = form(items, instructions="x").in_words_of_the_client(InvalidRequest("no", chats))
    assert (found.param, found.message) == (ours, "no")


def test_error_keeps_what_else_it_says() -> None:
    error = form().in_words_of_the_client(RateLimited("later", "messages", retry_after_s=7))
    assert isinstance(error, RateLimited) and (error.param, error.retry_after_s) == ("input", 7)
