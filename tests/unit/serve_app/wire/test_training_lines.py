"""A line of a training file becomes the record that it means, or is refused with the place of its fault."""

import json
from typing import Any

import pytest

from registry.records import CalledFunction, Example, Message, Pair, ToolCall
from serve_app.wire.training_lines import (
    MAX_LINE_BYTES,
    MAX_LINE_DEPTH,
    MAX_LINE_VALUES,
    BadLine,
    parse_line,
)

ASK = {"role": "user", "content": "Name a fruit."}
SAY = {"role": "assistant", "content": "Mango."}
OTHER = {"role": "assistant", "content": "Stone."}
CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
SCHEMA = {"type": "object", "properties": {"city": {"const": None}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CALLING = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call-1", "content": "mild"}


def parsed(**line: Any) -> Example | Pair:
    return parse_line(json.dumps(line).encode()).record()


def refusal(line: bytes) -> str:
    with pytest.raises(BadLine) as refused:
        parse_line(line)
    return str(refused.value)


def refusal_of(**line: Any) -> str:
    return refusal(json.dumps(line).encode())


def test_conversation_is_an_example() -> None:
    system = {"role": "developer", "content": "Be brief."}
    assert parsed(messages=[system, ASK, SAY]) == Example(
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="Name a fruit."),
            Message(role="assistant", content="Mango."),
        )
    )


def test_weight_says_which_messages_are_learned() -> None:
    example = parsed(messages=[ASK, {**OTHER, "weight": 0}, ASK, {**SAY, "weight": 1}])
    assert [message.is_trained for message in example.messages] == [True, False, True, True]


def test_conversation_with_tools_keeps_calls_results_and_definitions() -> None:
    example = parsed(messages=[ASK, CALLING, RESULT, SAY], tools=[TOOL], parallel_tool_calls=False)
    call = ToolCall(id="call-1", function=CalledFunction(name="weather", arguments={"city": "Rome"}))
    assert example.messages[1] == Message(role="assistant", tool_calls=(call,))
    assert example.messages[2] == Message(role="tool", content="mild", tool_call_id="call-1")
    assert example.tools == (TOOL,)


def test_parts_of_a_text_are_lines() -> None:
    parts = [{"type": "text", "text": "Name"}, {"type": "text", "text": "a fruit."}]
    example = parsed(messages=[{**ASK, "content": parts}, SAY])
    assert example.messages[0].content == "Name\na fruit."


def test_null_is_a_field_that_is_not_there() -> None:
    said = {**SAY, "refusal": None, "audio": None, "function_call": None, "tool_calls": None, "weight": None}
    assert parsed(messages=[{**ASK, "name": None}, said], tools=None, functions=None) == parsed(
        messages=[ASK, SAY]
    )


def test_preference_is_a_pair() -> None:
    assert parsed(
        input={"messages": [ASK], "tools": [TOOL], "parallel_tool_calls": True},
        preferred_output=[SAY],
        non_preferred_output=[CALLING, RESULT, OTHER],
    ) == Pair(
        messages=(Message(role="user", content="Name a fruit."),),
        preferred=(Message(role="assistant", content="Mango."),),
        rejected=parsed(messages=[CALLING, RESULT, OTHER]).messages,
        tools=(TOOL,),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "the line is not valid JSON"),
        (b'{"messages": NaN}', "the line is not valid JSON"),
        (b"[]", "the line must be a JSON object"),
        (b"1", "the line must be a JSON object"),
        (b'{"messages": "\xff"}', "the line is not in UTF-8"),
        (b" " * (MAX_LINE_BYTES + 1), f"the line is over {MAX_LINE_BYTES} bytes"),
        (b"[0" + b",0" * MAX_LINE_VALUES + b"]", f"the line has more than {MAX_LINE_VALUES} values"),
        (b"[" * 1000, f"the line has values that lie more than {MAX_LINE_DEPTH} levels deep"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else None,
)
def test_line_that_is_no_json_object_is_refused(line: bytes, message: str) -> None:
    assert refusal(line) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({}, "messages: Field required"),
        ({"messages": []}, "messages: List should have at least 1 item after validation, not 0"),
        ({"messages": [ASK]}, "messages: there is no message of the assistant to learn"),
        ({"messages": [ASK, SAY, ASK]}, "messages: the last message must be the assistant's"),
        (
            {"messages": [ASK, {**SAY, "weight": 0}]},
            "messages: all messages of the assistant have weight 0",
        ),
        (
            {"messages": [ASK, {**SAY, "weight": 2}]},
            "messages.1.weight: Input should be less than",
        ),
        ({"messages": [ASK, {**SAY, "wieght": 0}]}, "messages.1.wieght: Extra inputs are not permitted"),
        ({"messages": [{**ASK, "weight": 1}, SAY]}, "messages.0.weight: Extra inputs are not permitted"),
        ({"messages": [ASK, SAY], "prompt": "x"}, "prompt: Extra inputs are not permitted"),
        (
            {"messages": [ASK, SAY], "functions": []},
            "functions: this field is not supported; use `tools`",
        ),
        (
            {"messages": [ASK, {"role": "assistant"}]},
            "messages.1: a message of the assistant needs content",
        ),
        ({"messages": [{"role": "user"}, SAY]}, "messages.0.content: Field required"),
        ({"messages": [ASK, {**CALLING, "tool_calls": [{**CALL, "id": 3}]}]}, "messages.1.tool_calls.0.id: "),
        ({"messages": [RESULT, SAY]}, "messages.0.tool_call_id: no call before this turn has this id"),
        ({"messages": [ASK, SAY], "tools": [{"type": "function"}]}, "tools.0.function: Field required"),
    ],
)
def test_wrong_conversation_is_refused_with_the_place(line: Any, message: str) -> None:
    assert refusal_of(**line).startswith(message)


@pytest.mark.parametrize("arguments", ["[]", "{", '{"a": NaN'])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    place = "tool_calls.0.function.arguments: the arguments must be a JSON object"
    calling = {"role": "assistant", "tool_calls": [call]}
    assert refusal_of(messages=[ASK, calling]) == f"messages.1.{place}"
    assert refusal_of(input={"messages": [ASK]}, preferred_output=[SAY], non_preferred_output=[calling]) == (
        f"non_preferred_output.0.{place}"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preferred_output": None}, "preferred_output: "),
        ({"input": {}}, "input.messages: Field required"),
        (
            {"input": {"messages": [ASK, SAY]}},
            "input.messages: the last message must be the user's",
        ),
        ({"input": {"messages": [ASK], "weight": 1}}, "input.weight: Extra inputs are not permitted"),
        ({"preferred_output": []}, "preferred_output: List should have at least 1 item"),
        ({"preferred_output": [ASK]}, "preferred_output: the first message must be"),
        (
            {"preferred_output": [CALLING, RESULT]},
            "preferred_output: the last message must be",
        ),
        ({"preferred_output": [RESULT, SAY]}, "preferred_output: the first message must be"),
        ({"non_preferred_output": [{**SAY, "weight": 0}]}, "non_preferred_output: all messages"),
        ({"messages": [ASK, SAY]}, "messages: Extra inputs are not permitted"),
    ],
)
def test_wrong_preference_is_refused_with_the_place(change: dict[str, Any], message: str) -> None:
    line = {
        "input": {"messages": [ASK]},
        "preferred_output": [SAY],
        "non_preferred_output": [OTHER],
        **change,
    }
    assert refusal_of(**line).startswith(message)


def test_refusal_is_short_and_valid_text_whatever_the_line_has() -> None:
    message = refusal(b'{"messages": [], "' + b"\\ud800" * 1000 + b'": 1}')
    assert len(message) <= 300 and message.encode()
