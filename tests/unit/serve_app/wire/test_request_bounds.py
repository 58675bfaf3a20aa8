"""Everything in a request has an upper bound, and refusing a request costs no more than accepting it."""

import types
from collections.abc import Iterator
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import Le, Lt, MaxLen
from fastapi.routing import APIRoute
from pydantic import BaseModel, FailFast, ValidationError
from pydantic.fields import FieldInfo

from serve_app.api.ingress import ROUTERS
from serve_app.wire.generate import GenerateResponse
from serve_app.wire.keys import CreateKey
from serve_app.wire.models import ChangeModel, CreateModel
from serve_app.wire.openai import WITHOUT_MEANING, ChatCompletionRequest, CompletionRequest
from serve_app.wire.responses import ResponsesRequest
from serve_app.wire.train import Train

BOUND_BY_SETTINGS = {"learning_rate", "alpha", "beta"}
OF_ANY_SIZE = {"reward"}
SCHEMAS = {"parameters", "schema_", "json_"}
"""Checked by whoever holds an answer to them."""
MAX_ERRORS = 64
MANY = 100_000
HELLO = [{"role": "user", "content": "Hello"}]


def what_is_asked() -> Iterator[tuple[str, Any, list[Any]]]:
    """The bodies and query parameters of all routes, with their places, types and metadata.

    The length of a path is limited by that of the URL.
    """
    for route in (route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)):
        path = [found for found in route.dependant.path_params if found.field_info.annotation is int]
        for found in (*route.dependant.body_params, *route.dependant.query_params, *path):
            yield f"{route.path} {found.name}", found.field_info.annotation, found.field_info.metadata


def boundless(where: str, annotation: Any, metadata: list[Any]) -> Iterator[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    field = where.rpartition(".")[2]
    if origin is Annotated:
        inner, *more = arguments
        for each in more:
            metadata = [*metadata, *(each.metadata if isinstance(each, FieldInfo) else [each])]
        yield from boundless(where, inner, metadata)
    elif origin in (Union, types.UnionType):
        for form in arguments:
            yield from boundless(where, form, metadata)
    elif origin in (list, dict):
        is_schema = annotation == dict[str, Any] and field in SCHEMAS
        if not is_schema and not (has(metadata, MaxLen) and has(metadata, FailFast)):
            yield f"{where}: {annotation}"
        for part in arguments if not is_schema else ():
            yield from boundless(where, part, [])
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            yield from boundless(f"{where}.{name}", info.annotation, info.metadata)
    elif annotation is str and not has(metadata, MaxLen):
        yield f"{where}: str"
    elif annotation is int and not has(metadata, Le, Lt):
        yield f"{where}: int"
    elif annotation is float and not has(metadata, Le, Lt) and field not in BOUND_BY_SETTINGS | OF_ANY_SIZE:
        yield f"{where}: float"
    elif annotation is Any and field not in WITHOUT_MEANING:
        yield f"{where}: Any"
    else:
        known = annotation in (str, int, float, bool, type(None), Any, date, datetime)
        assert known or origin is Literal or issubclass(annotation, Enum), (where, annotation)


def has(metadata: list[Any], *kinds: type) -> bool:
    return any(isinstance(each, kinds) for each in metadata)


def test_everything_has_an_upper_bound() -> None:
    asked = list(what_is_asked())
    assert len(asked) >= 10
    assert [found for each in asked for found in boundless(*each)] == []


@pytest.mark.parametrize(
    ("annotation", "is_bounded"),
    [
        (Annotated[str, FieldInfo(max_length=2)] | None, True),
        (str | None, False),
        (list[Literal["a"]], False),
        (Annotated[list[int], FieldInfo(max_length=2, fail_fast=True)], False),
    ],
)
def test_what_has_no_bound_would_be_seen(annotation: Any, is_bounded: bool) -> None:
    assert (list(boundless("x", annotation, [])) == []) == is_bounded


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (GenerateResponse, {"messages": [0] * MANY}),
        (GenerateResponse, {"messages": [{"role": "king", "content": 0, "x": 1}] * MANY}),
        (GenerateResponse, {"messages": HELLO, "stop": [0] * MANY}),
        (GenerateResponse, {f"unknown{number}": 0 for number in range(MANY)}),
        (GenerateResponse, {"messages": [{f"unknown{number}": 0 for number in range(MANY)}]}),
        (ChatCompletionRequest, {"messages": [0] * MANY}),
        (ChatCompletionRequest, {"messages": [{"role": "user"}] * MANY}),
        (ChatCompletionRequest, {"messages": [{"role": "user", "content": [0] * MANY}]}),
        (ChatCompletionRequest, {"messages": [{"role": "assistant", "tool_calls": [0] * MANY}]}),
        (ChatCompletionRequest, {"messages": HELLO, "tools": [0] * MANY}),
        (ChatCompletionRequest, {"messages": HELLO, "stop": [0] * MANY}),
        (ChatCompletionRequest, {"messages": HELLO, "modalities": [0] * MANY}),
        (ChatCompletionRequest, {"messages": HELLO, "logit_bias": dict.fromkeys(map(str, range(MANY)), "x")}),
        (ChatCompletionRequest, {"messages": HELLO, "tool_choice": [0] * MANY}),
        (ResponsesRequest, {"input": [0] * MANY}),
        (ResponsesRequest, {"input": [{"type": "item_reference"}] * MANY}),
        (ResponsesRequest, {"input": [{"role": "user", "content": [0] * MANY}]}),
        (ResponsesRequest, {"input": "x", "tools": [{"type": "mcp"}] * MANY}),
        (ResponsesRequest, {"input": "x", "metadata": dict.fromkeys(map(str, range(MANY)), 0)}),
        (ResponsesRequest, {"input": "x", "include": [0] * MANY}),
        (ResponsesRequest, {name: [0] * MANY for name in ResponsesRequest.model_fields}),
        (CompletionRequest, {"prompt": [None] * MANY}),
        (CompletionRequest, {"prompt": [1.5] * MANY}),
        (CompletionRequest, {"prompt": [[1]] * MANY}),
        (CompletionRequest, {name: [0] * MANY for name in CompletionRequest.model_fields}),
        (ChatCompletionRequest, {name: [0] * MANY for name in ChatCompletionRequest.model_fields}),
        (Train, {"model": "m", "messages": [0] * MANY, "responses": [0] * MANY, "groups": [0] * MANY}),
        (Train, {"model": "m", "groups": [{"messages": [0] * MANY, "responses": [0] * MANY}] * MANY}),
        (Train, {"model": "m", "method": "supervised", "examples": [{"messages": [0] * MANY}] * MANY}),
        (Train, {"model": "m", "method": "supervised", "examples": [{"messages": HELLO}] * MANY}),
        (Train, {"model": "m", "method": "dpo", "pairs": [{"preferred": [0] * MANY}] * MANY}),
        (Train, {"model": "m", "method": "dpo", "pairs": [dict.fromkeys(map(str, range(MANY)), 0)]}),
        (Train, {"model": "m", "tools": [0] * MANY, "messages": HELLO, "responses": [0] * MANY}),
        (CreateModel, {f"unknown{number}": 0 for number in range(MANY)}),
        (ChangeModel, {name: {} for name in (*ChangeModel.model_fields, *map(str, range(MANY)))}),
        (CreateKey, {name: [] for name in ("name", "expires", *map(str, range(MANY)))}),
    ],
)
def test_refusal_has_few_errors(shape: type[BaseModel], body: dict[str, Any]) -> None:
    """Each error is built with its place and its words. A hundred thousand of them would take seconds."""
    with pytest.raises(ValidationError) as raised:
        shape.model_validate(body)
    assert raised.value.error_count() <= MAX_ERRORS


def test_one_of_many_unknown_fields_is_named() -> None:
    body = {f"unknown{number}": 0 for number in range(MANY)} | {"messages": HELLO, "n": 2}
    with pytest.raises(ValidationError) as raised:
        GenerateResponse.model_validate(body)
    assert [error["loc"] for error in raised.value.errors()] == [("unknown0",)]


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("top_k", [-1, 0, 2**31 - 1], [-2, 2**31, 2**70]),
        ("max_tokens", [1, 2**31 - 1], [0, 2**31, 2**70]),
        ("seed", [-(2**63), 2**63 - 1], [2**63, 2**70]),
        ("n", [1, 64], [0, 65, 2**70]),
        ("logprobs", [0, 20], [-1, 21, 2**70]),
        ("min_p", [0, 1], [-1, 1.5]),
        ("repetition_penalty", [0.01, 2], [0, 1e-300, 2.1]),
        ("frequency_penalty", [-2, 2], [-2.1, 2.1]),
        ("logit_bias", [{}, {"0": 100, "49151": -100}], [{"0": 101}, {"x": 1}, {"-1": 1}, {"1" * 10: 1}]),
        ("logit_bias", [], [{"\ud800": 1}, {"1_0": 1}, {"\u0661": 1}, {str(n): 1 for n in range(1025)}]),
        ("stop", ["a" * 1024], ["", "a" * 1025, [""], ["a"] * 17]),
        ("prompt", ["", ["a"] * 64, [0, 2**31 - 1]], [[], ["a"] * 65, [2**31], [-1], [2**70]]),
        ("prompt", [[[0, 2**31 - 1]] * 64], [[[1]] * 65, [[2**31]], [[-1]], [[]], [["a"]]]),
        ("min_tokens", [0, 2**31 - 1], [-1, 2**31, 2**70]),
        ("stop_token_ids", [[], [0, 2**31 - 1], [1] * 64], [[-1], [2**31], [1] * 65]),
        ("best_of", [1], [0, 65, 2**70]),
        ("model", ["a" * 256], ["a" * 257]),
    ],
)
def test_openai_value_is_in_its_range(field: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        CompletionRequest.model_validate({"prompt": "a", field: value})
    for value in bad:
        with pytest.raises(ValidationError) as raised:
            CompletionRequest.model_validate({"prompt": "a", field: value})
        assert {error["loc"][0] for error in raised.value.errors()} == {field}
