"""Tools with OpenAI's own client, while another user generates."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.support.bystanders import company
from tests.support.system import CALL_TIMEOUT_S, Client, System

BASE = "smollm2-135m"
ASKED: list[Any] = [{"role": "user", "content": "Paint the wall blue."}]
PAINT: Any = {
    "type": "function",
    "function": {
        "name": "paint",
        "description": "Paints a wall.",
        "parameters": {
            "type": "object",
            "properties": {"wall": {"const": "the northern wall"}, "colour": {"const": "blue"}},
            "required": ["wall", "colour"],
            "additionalProperties": False,
        },
    },
}
WIPE: Any = {"type": "function", "function": {"name": "wipe"}}
NAMED: Any = {"type": "function", "function": {"name": "paint"}}
WHOLE = {"wall": "the northern wall", "colour": "blue"}


@pytest.fixture(scope="module")
def api(system: System) -> Iterator[OpenAI]:
    client = system.client("painter")
    with OpenAI(base_url=f"{system.url}/openai/v1", api_key=client.key, timeout=CALL_TIMEOUT_S) as api:
        yield api


@pytest.fixture(autouse=True)
def others(speakers: list[tuple[Client, str]]) -> Iterator[None]:
    with company(speakers[:1]):
        yield


def ask(api: OpenAI, **more: Any) -> Any:
    asked = {"model": BASE, "messages": ASKED, "temperature": 0, "max_tokens": 64, **more}
    return api.chat.completions.create(**asked).choices[0]


def put_together(api: OpenAI, **more: Any) -> tuple[str, dict[int, Any], str]:
    """The text, the calls and the reason of a stream.

    They are put together as in OpenAI's guide, by adding up strings.
    """
    asked = {"model": BASE, "messages": ASKED, "temperature": 0, "max_tokens": 64, **more}
    content, calls, reason = "", {}, ""
    for chunk in api.chat.completions.create(stream=True, **asked):
        (choice,) = chunk.choices
        content += choice.delta.content or ""
        for call in choice.delta.tool_calls or ():
            if call.index not in calls:
                assert call.id and call.type == "function" and call.function.name
                calls[call.index] = call.function
            else:
                calls[call.index].arguments += call.function.arguments
        reason = choice.finish_reason or reason
    return content, calls, reason


def num_prompt_tokens(api: OpenAI, **more: Any) -> int:
    asked = {"model": BASE, "messages": ASKED, "max_tokens": 1, **more}
    return int(api.chat.completions.create(**asked).usage.prompt_tokens)


def test_model_is_shown_tools_calls_and_results(api: OpenAI) -> None:
    plain = num_prompt_tokens(api)
    assert num_prompt_tokens(api, tools=[]) == plain
    with_one = num_prompt_tokens(api, tools=[WIPE])
    assert plain < with_one < num_prompt_tokens(api, tools=[WIPE, PAINT])
    call = {"id": "call-1", "type": "function", "function": {"name": "paint", "arguments": "{}"}}
    calling: Any = [*ASKED, {"role": "assistant", "tool_calls": [call]}]
    empty: Any = {"role": "tool", "tool_call_id": "call-1", "content": ""}
    with_call = num_prompt_tokens(api, messages=[*calling, empty])
    result: Any = {"role": "tool", "tool_call_id": "call-1", "content": "The wall is blue now."}
    assert plain < with_call < num_prompt_tokens(api, messages=[*calling, result])


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_forced_call(api: OpenAI, choice: Any) -> None:
    asked: dict[str, Any] = {"tools": [PAINT], "tool_choice": choice}
    whole = ask(api, **asked)
    (call,) = whole.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("paint", WHOLE)
    content, calls, reason = put_together(api, **asked)
    assert (content, reason) == ("", whole.finish_reason)
    assert (calls[0].name, json.loads(calls[0].arguments)) == ("paint", WHOLE)


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_call_that_is_cut_has_what_there_is(api: OpenAI, choice: Any) -> None:
    """The call is cut before its name, in the middle of its arguments, and by a stop text."""
    for tokens in (1, 16):
        asked: dict[str, Any] = {"tools": [PAINT], "tool_choice": choice, "max_tokens": tokens}
        whole = ask(api, **asked)
        (call,) = whole.message.tool_calls
        content, calls, reason = put_together(api, **asked)
        assert (whole.finish_reason, reason, whole.message.content or "", content) == (
            "length",
            "length",
            "",
            "",
        )
        for function in (call.function, calls[0]):
            assert function.name == "paint"
            assert is_beginning(function.arguments), function.arguments
    asked = {"tools": [PAINT], "tool_choice": choice, "stop": ["northern"]}
    whole = ask(api, **asked)
    _, calls, reason = put_together(api, **asked)
    assert (whole.finish_reason, reason) == ("stop", "stop")
    for function in (whole.message.tool_calls[0].function, calls[0]):
        assert function.name == "paint" and function.arguments.rstrip().endswith("the")


def is_beginning(arguments: str) -> bool:
    """Return True if the text is a beginning of possible arguments, apart from white space."""
    found = "".join(arguments.split())
    orders = ({**WHOLE}, {"colour": WHOLE["colour"], "wall": WHOLE["wall"]})
    return any("".join(json.dumps(order).split()).startswith(found) for order in orders)


def test_what_the_model_says_by_itself_is_put_together(api: OpenAI) -> None:
    content, calls, reason = put_together(api, tools=[PAINT, WIPE], temperature=1, seed=3)
    assert reason in ("stop", "length", "tool_calls") and (content or calls)
    assert list(calls) == list(range(len(calls)))
    if reason == "tool_calls":
        assert calls and all(isinstance(json.loads(call.arguments), dict) for call in calls.values())
