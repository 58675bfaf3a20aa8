"""The Responses API with OpenAI's own client, while another user generates."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.support.bystanders import company
from tests.support.system import CALL_TIMEOUT_S, Client, System

BASE = "smollm2-135m"
QUESTION = "What is your favourite colour?"
GREEDY: dict[str, Any] = {"model": BASE, "temperature": 0, "max_output_tokens": 24}
PAINT: Any = {
    "type": "function",
    "name": "paint",
    "parameters": {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Fruit(BaseModel):
    name: Literal["apple", "mango"]
    is_ripe: bool


@pytest.fixture(scope="module")
def writer(system: System) -> Client:
    client = system.client("writer")
    client.create("Private One")
    return client


@pytest.fixture(scope="module")
def api(system: System, writer: Client) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{system.url}/openai/v1", api_key=writer.key, timeout=CALL_TIMEOUT_S, max_retries=0
    ) as api:
        yield api


@pytest.fixture(autouse=True)
def others(speakers: list[tuple[Client, str]]) -> Iterator[None]:
    with company(speakers[:1]):
        yield


def test_says_what_chat_says(api: OpenAI) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    chat = api.chat.completions.create(model=BASE, messages=messages, temperature=0, max_tokens=24)
    response = api.responses.create(**GREEDY, instructions="Be brief.", input=QUESTION)
    assert response.usage is not None and chat.usage is not None
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    # Beside others the last bits of a sum differ: the answers begin alike.
    assert response.output_text[:10] == (chat.choices[0].message.content or "")[:10]
    assert (response.model, response.temperature) == (BASE, 0)
    if response.usage.output_tokens == 24:
        assert response.status == "incomplete" and response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
    asked: Any = {"role": "user", "content": QUESTION}
    items: list[Any] = [asked, *response.output, {"role": "user", "content": "Why?"}]
    again = api.responses.create(**GREEDY, instructions="Be brief.", input=items)
    assert again.usage is not None and again.usage.input_tokens > response.usage.input_tokens


def test_streams_what_it_answers(api: OpenAI) -> None:
    events = list(api.responses.create(**GREEDY, input=QUESTION, top_logprobs=2, stream=True))
    first, last = events[0], events[-1]
    assert first.type == "response.created"
    assert last.type in ("response.completed", "response.incomplete")
    final = last.response
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text and text
    (item,) = final.output
    assert item.type == "message" and item.content[0].type == "output_text"
    log_probs = item.content[0].logprobs or []
    assert final.usage is not None
    assert len(log_probs) == final.usage.output_tokens
    assert all(len(each.top_logprobs) == 2 and each.logprob <= 0 for each in log_probs)


def test_tool_is_called_and_its_result_read(api: OpenAI) -> None:
    items: list[Any] = [{"role": "user", "content": "Paint it blue."}]
    asked: Any = {"model": BASE, "tools": [PAINT], "max_output_tokens": 64, "temperature": 0}
    response = api.responses.create(**asked, input=items, tool_choice="required")
    (call,) = response.output
    assert call.type == "function_call" and call.name == "paint"
    assert json.loads(call.arguments)["colour"] in ("red", "blue")
    named: Any = {"type": "function", "name": "paint"}
    with api.responses.stream(**asked, input=items, tool_choice=named) as stream:
        deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        (streamed,) = stream.get_final_response().output
    assert streamed.type == "function_call" and "".join(deltas) == streamed.arguments
    assert json.loads(streamed.arguments)["colour"] in ("red", "blue")
    items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": "It is blue now."}]
    after = api.responses.create(**asked, input=items)
    assert after.status in ("completed", "incomplete")
    assert after.usage is not None and response.usage is not None
    assert after.usage.input_tokens > response.usage.input_tokens
    cut = api.responses.create(**{**asked, "max_output_tokens": 4}, input=items, tool_choice="required")
    (begun,) = cut.output
    assert (cut.status, begun.type, begun.status) == ("incomplete", "function_call", "incomplete")


def test_structured_output(api: OpenAI) -> None:
    parsed = api.responses.parse(
        model=BASE, input="Name a fruit.", text_format=Fruit, max_output_tokens=64, temperature=1
    )
    assert isinstance(parsed.output_parsed, Fruit)
    text: Any = {"format": {"type": "json_object"}}
    assert api.responses.create(**GREEDY, input="A fruit, as JSON.", text=text).output_text.startswith("{")


def test_private_model_is_its_owners(api: OpenAI, system: System) -> None:
    response = api.responses.create(**{**GREEDY, "model": "Private One"}, input="Hello")
    assert response.model == "private-one@0"
    other = system.client("reader")
    stranger = OpenAI(base_url=f"{system.url}/openai/v1", api_key=other.key, max_retries=0)
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as absent:
            stranger.responses.create(**{**GREEDY, "model": "private-one"}, input="Hello", stream=stream)
        assert absent.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("previous_response_id", "resp_1", "previous_response_id"),
        ("background", True, "background"),
        ("truncation", "auto", "truncation"),
        ("tools", [{"type": "web_search"}], "tools.0"),
        ("input", [{"type": "item_reference", "id": "msg_1"}], "input.0"),
        ("input", "so " * 3000, "input"),
        ("max_output_tokens", 5000, "max_output_tokens"),
    ],
)
def test_what_is_not_done_is_refused_by_name(api: OpenAI, field: str, value: Any, param: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            api.responses.create(**{**GREEDY, "input": "Hello", field: value}, stream=stream)
        assert refused.value.param == param, refused.value.message
