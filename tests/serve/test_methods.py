"""Trainings on examples and pairs over real HTTP: what is accepted, stored and refused."""

import json
from typing import Any

from registry.records import JobRequest
from tests.support.account import HELLO, Account, assert_error
from tests.support.service import Service

CALL = {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
TOOL = {"type": "function", "function": {"name": "weather"}}
TURNS: list[dict[str, Any]] = [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call-1", "content": "mild"},
    {"role": "assistant", "content": "It is mild."},
]


def example(content: str) -> dict[str, Any]:
    return {"messages": [*HELLO, {"role": "assistant", "content": content}]}


def supervised(*examples: Any, **more: Any) -> dict[str, Any]:
    return {"model": "mine", "method": "supervised", "examples": examples, "background": True, **more}


def dpo(*pairs: Any, **more: Any) -> dict[str, Any]:
    return {"model": "mine", "method": "dpo", "pairs": pairs, "background": True, **more}


def test_accepted_training_is_stored_as_it_was_asked_for(service: Service, alice: Account) -> None:
    alice.create("Mine", parent="two")
    pair = {"messages": HELLO, "preferred": TURNS, "rejected": "No.", "tools": [TOOL]}
    with_tools = {"messages": [*HELLO, *TURNS], "tools": [TOOL], "weight": 0.5}
    for body, steps in (
        (supervised(example("Hi."), with_tools, epochs=2, batch_size=1), 4),
        (dpo(pair, pair, pair, batch_size=2), 2),
    ):
        headers = {"Idempotency-Key": f"of-{body['method']}"}
        answer = alice.http.post("/v1/train", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        job = answer.json()
        assert job["steps"] == steps
        stored = service.store.get(f"jobs/{alice.user}/{job['id']}/request.json").body
        request = JobRequest.model_validate_json(stored)
        assert request.method == body["method"]
        taught = body["examples" if body["method"] == "supervised" else "pairs"]
        assert len(request.examples) + len(request.pairs) == len(taught)
        assert alice.http.post("/v1/train", json=body, headers=headers).json()["id"] == job["id"]
        assert_error(
            alice.http.post("/v1/train", json=body | {"batch_size": 3}, headers=headers),
            409,
            "idempotency_conflict",
        )
    assert json.loads(stored)["pairs"][0]["preferred"][0]["tool_calls"][0]["function"]["name"] == "weather"


def test_what_is_too_much_is_refused_with_its_place(alice: Account) -> None:
    alice.create("Mine", parent="two")
    pair = {"messages": HELLO, "preferred": "a", "rejected": "b" * 2000}
    for body, code, param in (
        (supervised(*[example("a")] * 7), "invalid_request", "examples"),
        (supervised(example("a"), example("a" * 2000)), "context_length_exceeded", "examples.1.messages"),
        (dpo(pair), "context_length_exceeded", "pairs.0.rejected"),
        (supervised(*[example("a" * 1000)] * 4), "invalid_request", "examples"),
        (supervised(example("a" * 1000), example("b"), epochs=50, batch_size=1), "invalid_request", "epochs"),
        (
            supervised(*[example("a" * 1000)] * 3, learning_steps=50),
            "invalid_request",
            "learning_steps",
        ),
        (supervised(example("a") | {"weight": 0}), "no_learning_signal", "examples"),
        (dpo({"messages": HELLO, "preferred": "a", "rejected": "a"}), "no_learning_signal", "pairs"),
    ):
        assert_error(alice.http.post("/v1/train", json=body), 422, code, param)
    assert alice.http.get("/v1/jobs").json() == []
