"""Answers to a conversation over HTTP, whole and as streams, with a fake model server."""

import json
import re
from typing import Any

import pytest

from tests.support.account import Account, assert_error, chunks_of
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_answer_is_in_the_shape_of_the_contract(alice: Account) -> None:
    answer = alice.generate(model="one", n=2).json()
    assert set(answer) == {"id", "model", "revision", "message", "responses", "stop_reason", "usage"}
    assert answer["responses"][0] == {
        "content": answer["message"]["content"],
        "stop_reason": "end_turn",
        "output_tokens": 2,
    }
    assert len(answer["responses"]) == 2
    assert answer["usage"] == {"input_tokens": 3, "output_tokens": 4, "duration": 0.25, "duration_ms": 250}


def test_each_answer_has_an_id_of_its_own(alice: Account) -> None:
    ids = [alice.generate().json()["id"], alice.generate().json()["id"]]
    ids.append(chunks_of(alice.generate(stream=True))[-1]["id"])
    assert len(set(ids)) == 3 and all(re.fullmatch(r"gen-[0-9a-f]{24}", each) for each in ids)


@pytest.mark.parametrize("named", [{}, {"model": None}, {"model": ""}])
def test_default_model_answers_when_none_is_named(alice: Account, named: dict[str, Any]) -> None:
    assert alice.generate(**named).json()["model"] == "one"
    body = {**named, "messages": [{"role": "user", "content": "Hi"}]}
    for path, more in (("chat/completions", body), ("completions", {**named, "prompt": "Hi"})):
        assert alice.http.post(f"/openai/v1/{path}", json=more).json()["model"] == "one"


def test_training_needs_the_name_of_a_model(alice: Account) -> None:
    assert_error(alice.train(""), 404, "model_not_found", "model")


def test_samples_with_rewards_are_a_training(alice: Account) -> None:
    alice.create("Mine")
    samples = alice.generate(model="mine", n=2).json()["responses"]
    responses = [{**sample, "reward": reward} for reward, sample in enumerate(samples)]
    accepted = alice.train("mine", responses=responses, background=True)
    assert accepted.status_code == 202
    assert alice.http.post(f"/v1/jobs/{accepted.json()['id']}/cancel").status_code == 200
    wrong = [{**responses[0], "output_tokens": -1}, responses[1]]
    assert_error(alice.train("mine", responses=wrong), 422, "invalid_request", "responses.0.output_tokens")


def test_responses_that_leave_nothing_to_learn_are_refused(alice: Account) -> None:
    alice.create("Mine")
    cut = [
        {"content": "", "stop_reason": "stop_sequence", "reward": 1},
        {"content": "", "stop_reason": "max_tokens", "reward": 0},
    ]
    assert_error(alice.train("mine", responses=cut), 422, "no_learning_signal", "responses")
    average = [*cut, {"content": "Mango.", "reward": 0.5}]
    assert_error(alice.train("mine", responses=average), 422, "no_learning_signal", "responses")
    equal = [{"content": text, "reward": 1} for text in "ab"]
    messages = [{"role": "user", "content": "Hi"}]
    groups = [{"messages": messages, "responses": responses} for responses in (cut, equal)]
    body = {"model": "mine", "groups": groups}
    assert_error(alice.http.post("/v1/train", json=body), 422, "no_learning_signal", "groups")
    assert alice.http.get("/v1/jobs?model=mine").json() == []


def test_model_server_gets_the_models_defaults_and_the_user(alice: Account) -> None:
    alice.create("Mine", temperature=1.5)
    answer = alice.generate(model="Mine", top_p=0.5, stop=["END"]).json()
    call = json.loads(answer["message"]["content"])
    assert (call["temperature"], call["top_p"], call["stop"]) == (1.5, 0.5, ["END"])
    assert call["adapter_id"] is None
    assert call["user"] == alice.user


def test_stream_has_deltas_and_ends_with_stop(alice: Account) -> None:
    chunks = chunks_of(alice.generate(stream=True))
    assert [chunk["type"] for chunk in chunks] == ["delta", "stop"]
    assert chunks[-1]["stop_reason"] == "end_turn"


def test_stream_that_fails_before_it_begins_is_an_error_status(alice: Account) -> None:
    response = alice.generate(stream=True, messages=[{"role": "user", "content": "too long"}])
    assert_error(response, 422, "context_length_exceeded", "messages")


def test_stream_that_fails_later_ends_with_an_error_line(alice: Account) -> None:
    response = alice.generate(stream=True, messages=[{"role": "user", "content": "break"}])
    last = chunks_of(response)[-1]
    assert (last["type"], last["error"]["code"]) == ("error", "internal_error")
    assert last["message"] == last["error"]["message"] == "internal error"
    assert "secret" not in response.text and "Traceback" not in response.text


def test_error_of_a_replica_shows_nothing_of_it(alice: Account) -> None:
    response = alice.generate(messages=[{"role": "user", "content": "break"}])
    assert_error(response, 500, "internal_error")
    assert "secret" not in response.text and "Traceback" not in response.text


def test_client_that_goes_away_stops_its_generation_within_a_second(service: Service, alice: Account) -> None:
    ended = service.signals / "ended 4242"
    body = {"messages": [{"role": "user", "content": "endless"}], "stream": True, "seed": 4242}
    with alice.http.stream("POST", "/v1/generate_response", json=body) as response:
        lines = response.iter_lines()
        assert [json.loads(next(lines))["type"] for _ in range(3)] == ["delta"] * 3
        assert not ended.exists()
    wait_until(ended.exists, 1)
