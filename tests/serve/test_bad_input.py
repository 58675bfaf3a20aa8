"""Requests that are refused, over real HTTP, and the field that each error names."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from registry.records import UserModels
from registry.user_models import UserModelStore
from tests.support.account import HELLO, RESPONSES, Account, assert_error
from tests.support.service import MAX_REQUEST_BYTES, Service

ANSWER = {"role": "assistant", "content": "Hi."}
RESULT = {"role": "tool", "tool_call_id": "call-1", "content": "x"}
SUPERVISED = {"model": "mine", "method": "supervised", "examples": [{"messages": [*HELLO, ANSWER]}]}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/models", {"name": "X", "description": "", "parent_model": "one", "colour": "red"}, "colour"),
        ("/v1/models", {"name": 1, "description": "", "parent_model": "one"}, "name"),
        ("/v1/models", {"name": "a/b", "description": "", "parent_model": "one"}, "name"),
        ("/v1/models", {"name": "X", "parent_model": "one"}, "description"),
        ("/v1/models", {"name": "X", "description": "", "parent_model": "one", "rank": 17}, "rank"),
        ("/v1/models", {"name": "X", "description": "", "parent_model": "one", "rank": 10**400}, "rank"),
        ("/v1/models", {"name": "X", "description": "", "parent_model": "one", "alpha": 10**400}, "alpha"),
        ("/v1/models", {"name": ".", "description": "", "parent_model": "one"}, "name"),
        ("/v1/models", {"name": "..", "description": "", "parent_model": "one"}, "name"),
        ("/v1/models", {"name": "X", "description": "\x1b[2J", "parent_model": "one"}, "description"),
        ("/v1/models", {"name": "X", "description": "", "parent_model": "one", "rank": 2**70}, "rank"),
        ("/v1/models", {"name": "X", "description": "", "parent_model": "one", "alpha": 1024.5}, "alpha"),
        ("/v1/models", {"name": "X", "description": "", "parent_model": "one", "beta": 100.5}, "beta"),
        (
            "/v1/models",
            {"name": "X", "description": "", "parent_model": "one", "learning_rate": 0.2},
            "learning_rate",
        ),
        ("/v1/generate_response", {"messages": []}, "messages"),
        ("/v1/generate_response", {"messages": HELLO, "max_tokens": 2**70}, "max_tokens"),
        ("/v1/generate_response", {"messages": [{"role": "king", "content": ""}]}, "messages.0.role"),
        ("/v1/generate_response", {"messages": HELLO, "temperature": 2.1}, "temperature"),
        ("/v1/generate_response", {"messages": HELLO, "temperature": "1"}, "temperature"),
        ("/v1/generate_response", {"messages": HELLO, "top_p": 0}, "top_p"),
        ("/v1/generate_response", {"messages": HELLO, "n": 65}, "n"),
        ("/v1/generate_response", {"messages": HELLO, "n": True}, "n"),
        ("/v1/generate_response", {"messages": HELLO, "seed": 2**63}, "seed"),
        ("/v1/generate_response", {"messages": HELLO, "max_tokens": 0}, "max_tokens"),
        ("/v1/generate_response", {"messages": HELLO, "stream": True, "n": 2}, None),
        ("/v1/generate_response", {"messages": HELLO[0]}, "messages"),
        ("/v1/train", {"model": "mine", "messages": HELLO}, None),
        (
            "/v1/train",
            {"model": "mine", "messages": HELLO, "responses": RESPONSES, "learning_rate": 1e38},
            "learning_rate",
        ),
        ("/v1/train", {"model": "mine", "messages": HELLO, "responses": RESPONSES, "beta": 1e38}, "beta"),
        ("/v1/train", {"model": "mine", "messages": HELLO, "responses": RESPONSES[:1]}, "responses"),
        (
            "/v1/train",
            {"model": "mine", "messages": HELLO, "responses": [RESPONSES[0], {"content": "x"}]},
            "responses.1.reward",
        ),
        (
            "/v1/train",
            {"model": "mine", "groups": [{"messages": HELLO, "responses": [1, 2]}]},
            "groups.0.responses.0",
        ),
        ("/v1/train", {"model": "mine", "messages": HELLO, "responses": RESPONSES, "epsilon": 1}, "epsilon"),
        ("/v1/train", {"model": "mine", "messages": HELLO, "responses": RESPONSES, "epochs": 1}, "epochs"),
        ("/v1/train", {"model": "mine", "method": "sft"}, "method"),
        ("/v1/train", {"model": "mine", "method": "dpo"}, "pairs"),
        ("/v1/train", SUPERVISED | {"examples": [{"messages": HELLO}]}, "examples.0.messages"),
        ("/v1/train", SUPERVISED | {"learning_rate": 1e38}, "learning_rate"),
        ("/v1/train", SUPERVISED | {"epochs": 51}, "epochs"),
        ("/v1/train", SUPERVISED | {"learning_steps": 51}, "learning_steps"),
        (
            "/v1/train",
            {"model": "mine", "method": "dpo", "pairs": [{"messages": HELLO, "preferred": "a"}]},
            "pairs.0.rejected",
        ),
        (
            "/v1/train",
            {
                "model": "mine",
                "messages": HELLO,
                "responses": [RESPONSES[0], {"reward": 0, "messages": [RESULT, ANSWER]}],
            },
            "responses.1.messages",
        ),
        (
            "/v1/train",
            SUPERVISED | {"examples": [{"messages": [*HELLO, RESULT, ANSWER]}]},
            "examples.0.messages.1.tool_call_id",
        ),
    ],
)
def test_bad_field_is_named(alice: Account, path: str, body: Any, param: str | None) -> None:
    alice.create("Mine")
    assert_error(alice.http.post(path, json=body), 422, "invalid_request", param)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"messages": HELLO, "top_k": 2**70}, "top_k"),
        ("chat/completions", {"messages": HELLO, "seed": 2**63}, "seed"),
        ("chat/completions", {"messages": HELLO, "max_tokens": 2**70}, "max_tokens"),
        ("chat/completions", {"messages": HELLO, "logit_bias": {"x": 1}}, "logit_bias.x"),
        ("chat/completions", {"messages": HELLO, "stop": "x" * 1025}, "stop"),
        ("chat/completions", {"messages": [{"role": "x" * 10**6}]}, "messages.0"),
        ("chat/completions", {"messages": HELLO, "x" * 10**6: 1}, "x" * 200),
        ("completions", {"prompt": [2**70]}, "prompt.0"),
        ("responses", {"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ("responses", {"input": [{"role": "x" * 10**6}]}, "input.0.role"),
        ("responses", {"input": "a", "tools": [{"type": "mcp"}]}, "tools.0"),
        ("responses", {"input": "a", "previous_response_id": "x"}, "previous_response_id"),
        ("responses", {"input": "a", "max_output_tokens": 2**70}, "max_output_tokens"),
        ("completions", {"prompt": ["a"] * 64, "n": 64, "max_tokens": 1}, "n"),
    ],
)
def test_bad_field_of_openai_is_named(alice: Account, path: str, body: Any, param: str | None) -> None:
    answer = alice.http.post(f"/openai/v1/{path}", json=body)
    assert_error(answer, 400, "invalid_request", param)
    assert len(answer.content) < 10_000


def test_value_over_a_limit_is_refused_also_in_a_change(alice: Account) -> None:
    alice.create("Mine", beta=100, learning_rate=0.1, alpha=1024)
    for change in ({"learning_rate": 0.11}, {"beta": 101}, {"name": ".."}):
        (field,) = change
        assert_error(alice.http.patch("/v1/models/mine", json=change), 422, "invalid_request", field)


@pytest.mark.parametrize(
    "name", ["%2e", "%2E%2E", "...", " .", "a b?c#d&e%", "\\..\\", ";", "~", "\U0001f405"]
)
def test_model_is_found_by_its_name_whatever_that_is(alice: Account, name: str) -> None:
    made = alice.create(name)
    for ref in (made["id"], quote(name, safe="")):
        assert alice.http.get(f"/v1/models/{ref}").json()["name"] == name


def test_model_with_a_name_that_is_refused_today_stays(service: Service, alice: Account) -> None:
    alice.create("Mine")
    user_models = UserModelStore(service.store)
    stored = user_models.load(alice.user).models.models[0].model_copy(update={"name": "..", "id": "model"})
    old = service.user()
    user_models.save(old.user, UserModels(models=(stored,)), None)
    assert old.http.get("/v1/models/model").json()["name"] == ".."
    assert old.generate(model="..").status_code == 200
    assert old.http.patch("/v1/models/model", json={"name": "Model"}).json()["name"] == "Model"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b'"text"',
        b"null",
        b'{"messages": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "Hello"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "Hello"}], "temperature": Infinity}',
        b'{"messages": [{"role": "user", "content": "Hello"}], "temperature": 1e999}',
        b'{"messages": [{"role": "\\ud800", "content": ""}]}',
        b'{"messages": [{"role": "user", "content": "Hello"}], "model": "\\ud800"}',
        '{"messages": []}'.encode("utf-16"),
        b'{"\\ud800": 1, "messages": [{"role": "user", "content": "Hello"}]}',
    ],
)
def test_bad_body_is_refused(alice: Account, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = alice.http.post("/v1/generate_response", content=body, headers=headers)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/x"])
def test_body_that_is_not_sent_as_json_is_refused(alice: Account, content_type: str) -> None:
    response = alice.http.post(
        "/v1/generate_response",
        content=json.dumps({"messages": HELLO}),
        headers={"Content-Type": content_type},
    )
    assert_error(response, 422, "invalid_request")


def test_announced_large_body_is_refused_unread(service: Service, alice: Account) -> None:
    response = alice.http.post("/v1/generate_response", content=b"x" * (MAX_REQUEST_BYTES + 1))
    assert_error(response, 413, "request_too_large")


def test_large_body_without_a_length_is_refused(alice: Account) -> None:
    chunks = (b" " * 2**16 for _ in range(MAX_REQUEST_BYTES // 2**16 + 1))
    headers = {"Content-Type": "application/json"}
    response = alice.http.post("/v1/generate_response", content=chunks, headers=headers)
    assert_error(response, 413, "request_too_large")


def test_body_of_the_largest_size_is_read(alice: Account) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    body += b" " * (MAX_REQUEST_BYTES - len(body))
    headers = {"Content-Type": "application/json"}
    assert alice.http.post("/v1/generate_response", content=body, headers=headers).status_code == 200


def test_bad_requests_do_not_harm_others(alice: Account) -> None:
    def bad(number: int) -> int:
        return alice.http.post("/v1/generate_response", content=b"[" * 50_000).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = [(pool.submit(bad, number), pool.submit(alice.generate)) for number in range(8)]
        assert {first.result() for first, _ in answers} == {422}
        assert {second.result().status_code for _, second in answers} == {200}
