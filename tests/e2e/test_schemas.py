"""JSON Schemas of one user, while another user generates; every answer fits its schema."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.schemas import HEAVY, REFUSED_AT_SIGHT, REFUSED_BY_COMPILING, chain
from tests.support.system import Client, System

BASE = "smollm2-135m"
CHAT = "/openai/v1/chat/completions"
PLACE = "response_format.json_schema.schema"
NUM_AT_ONCE = 8
SLACK_S = 2.0
"""A moment on a machine that others use."""
TIMES_SLOWER = 5

SMALL = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "Rome"]},
        "size": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["city", "size"],
    "additionalProperties": False,
}
HELD: dict[str, dict[str, Any]] = {
    "both of two branches": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"]},
        ],
    },
    "a pattern with a length": {"type": "string", "pattern": "^[a-c]*$", "minLength": 3, "maxLength": 6},
    "a reference beside a length": {
        "$defs": {"word": {"type": "string", "pattern": "^[a-z]+$"}},
        "type": "object",
        "properties": {"word": {"$ref": "#/$defs/word", "maxLength": 4}},
        "required": ["word"],
        "additionalProperties": False,
    },
    "a text or a number": {"enum": ["one", 2]},
    "numbers in a tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer", "multipleOf": 5, "minimum": 5, "maximum": 50}, {"const": None}],
        "minItems": 2,
        "maxItems": 2,
    },
    "a moment": {"type": "string", "format": "date-time", "maxLength": 25},
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "paint",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "blue"]}},
            "required": ["colour"],
            "additionalProperties": False,
        },
    },
}


def asking(schema: Any, **more: Any) -> dict[str, Any]:
    return {
        "model": BASE,
        "messages": [{"role": "user", "content": "Answer in JSON."}],
        "max_tokens": 60,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        **more,
    }


def refusal(client: Client, schema: Any) -> tuple[int, str, str | None]:
    answer = client.http.post(CHAT, json=asking(schema))
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def longest_gap(client: Client) -> float:
    """The longest time between two lines of a stream, or before the first one, in seconds."""
    body = {"model": BASE, "messages": [{"role": "user", "content": "Tell me a long story."}], "stream": True}
    gaps, at = [], time.monotonic()
    with client.http.stream("POST", CHAT, json={**body, "max_tokens": 48, "temperature": 0}) as answer:
        assert answer.status_code == 200, answer.read()
        for _ in answer.iter_lines():
            now = time.monotonic()
            gaps.append(now - at)
            at = now
    return max(gaps)


def seconds_for_small(client: Client, number: Iterator[int]) -> float:
    """The seconds of a request with a small schema that was not used before."""
    schema = {**SMALL, "properties": {**SMALL["properties"], f"extra_{next(number)}": {"type": "null"}}}  # type: ignore[dict-item]
    start = time.monotonic()
    answer = client.post(CHAT, asking(schema, temperature=0))
    taken = time.monotonic() - start
    (choice,) = answer["choices"]
    if choice["finish_reason"] == "stop":
        Draft202012Validator(schema).validate(json.loads(choice["message"]["content"]))
    return taken


@contextmanager
def in_company(client: Client, bodies: list[dict[str, Any]]) -> Iterator[list[int]]:
    """During the block `client` sends all requests repeatedly, several at once; gives the statuses."""
    statuses: list[int] = []
    is_over = threading.Event()
    turns = itertools.cycle([json.dumps(body).encode() for body in bodies])
    headers = {"Content-Type": "application/json"}

    def ask() -> None:
        while not is_over.is_set():
            answer = client.http.post(CHAT, content=next(turns), headers=headers)
            statuses.append(answer.status_code)
            if answer.status_code >= 500:
                print(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(NUM_AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_schemas_of_one_user_do_not_hold_up_another(alice: Client, bob: Client) -> None:
    number = itertools.count()
    seconds_for_small(bob, number)
    plain = [{**asking(None, max_tokens=8), "response_format": {"type": "text"}}]
    with in_company(alice, plain):
        usual_gap = max(longest_gap(bob) for _ in range(2))
        usual_small = max(seconds_for_small(bob, number) for _ in range(2))
    refused = [schema for name, (schema, _) in REFUSED_AT_SIGHT.items() if name != "size"]
    worst = [*HEAVY.values(), *refused, *REFUSED_BY_COMPILING.values()]
    with in_company(alice, [asking(schema, max_tokens=8) for schema in worst]) as statuses:
        gap = max(longest_gap(bob) for _ in range(2))
        small = max(seconds_for_small(bob, number) for _ in range(2))
    print(f"longest gap {usual_gap:.2f} -> {gap:.2f} s, small schema {usual_small:.2f} -> {small:.2f} s")
    assert {200, 400} <= set(statuses) <= {200, 400, 429}
    assert gap < TIMES_SLOWER * usual_gap + SLACK_S
    assert small < TIMES_SLOWER * usual_small + SLACK_S


TOO_MUCH_FOR_ANY_BODY = ("a list of small things", "depth")


@pytest.mark.parametrize("name", HEAVY)
def test_heavy_schema_is_taken(alice: Client, name: str) -> None:
    (choice,) = alice.post(CHAT, asking(HEAVY[name], max_tokens=16))["choices"]
    assert choice["finish_reason"] in ("stop", "length")


@pytest.mark.parametrize("name", REFUSED_AT_SIGHT)
def test_refused_schema_names_its_place(alice: Client, name: str) -> None:
    schema, place = REFUSED_AT_SIGHT[name]
    param = None if name in TOO_MUCH_FOR_ANY_BODY else f"{PLACE}.{place}".rstrip(".")
    assert refusal(alice, schema) == (400, "invalid_request", param)


@pytest.mark.parametrize("name", REFUSED_BY_COMPILING)
def test_schema_that_cannot_be_compiled_is_named(alice: Client, name: str) -> None:
    assert refusal(alice, REFUSED_BY_COMPILING[name]) == (400, "invalid_request", PLACE)


def test_schema_that_is_missing_or_deeper_than_any_parser(alice: Client) -> None:
    body = asking(None)
    del body["response_format"]["json_schema"]["schema"]
    assert alice.post(CHAT, body, 400)["error"]["param"] == PLACE
    deep = '{"properties": {"a": ' * 800 + "{}" + "}}" * 800
    text = json.dumps(asking("HERE")).replace('"HERE"', deep)
    answer = alice.http.post(CHAT, content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("name", HELD)
def test_answers_fit_their_schema(alice: Client, name: str) -> None:
    answer = alice.post(CHAT, asking(HELD[name], n=4, temperature=1.5, max_tokens=160))
    whole = [c["message"]["content"] for c in answer["choices"] if c["finish_reason"] == "stop"]
    for text in whole:
        Draft202012Validator(HELD[name]).validate(json.loads(text))
    assert whole


def test_tool_that_cannot_be_compiled_is_named(alice: Client) -> None:
    bad: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}
    tools = [TOOL, {"type": "function", "function": {"name": "wash", "parameters": bad}}]
    body = asking(None, tools=tools, response_format={"type": "text"})
    assert alice.post(CHAT, body, 400)["error"]["param"] == "tools.1.function.parameters"
    bad["properties"]["a"] = {"not": {}}
    place = "tools.1.function.parameters.properties.a.not"
    assert alice.post(CHAT, body, 400)["error"]["param"] == place


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "paint"}}])
def test_tools_beside_a_schema(alice: Client, choice: Any) -> None:
    """The answer is a call. If no call is asked for, the answer fits the schema."""
    body = asking(SMALL, tools=[TOOL], tool_choice=choice, temperature=0, max_tokens=120)
    (answer,) = alice.post(CHAT, body)["choices"]
    calls = answer["message"].get("tool_calls") or []
    assert calls or choice == "auto"
    for call in calls:
        Draft202012Validator(TOOL["function"]["parameters"]).validate(
            json.loads(call["function"]["arguments"])
        )
    if not calls and answer["finish_reason"] == "stop":
        Draft202012Validator(SMALL).validate(json.loads(answer["message"]["content"]))


def test_engine_has_nothing_left_over(system: System, alice: Client, user: Callable[[], Client]) -> None:
    """After all of these tests a request with a schema and a request without one are answered."""
    assert refusal(alice, chain(3_000))[0] == 400
    number = itertools.count()
    assert seconds_for_small(user(), number) > 0
    assert alice.greedy(BASE, "Name a colour.", 4)["stop_reason"] in ("max_tokens", "end_turn")
    assert system.client("after-schemas").get("/v1/models")
