"""Generation over HTTP, in the real system."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from tests.support.system import Client, System

SKY = [{"role": "user", "content": "Why is the sky blue?"}]
UNFINISHED = """
from ray import serve
import ray
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
handle = serve.get_deployment_handle("ModelServer:smollm2-135m", "base-model-smollm2-135m")
print(handle.num_unfinished.remote().result(timeout_s=60))
"""


def test_whole_answer_has_the_contracts_shape(alice: Client) -> None:
    answer = alice.post("/v1/generate_response", {"model": "smollm2-135m", "messages": SKY, "max_tokens": 5})
    assert set(answer) == {"id", "model", "revision", "message", "responses", "stop_reason", "usage"}
    assert answer["model"] == "smollm2-135m" and answer["revision"] == 0
    assert answer["message"] == {"role": "assistant", "content": answer["responses"][0]["content"]}
    assert answer["stop_reason"] == answer["responses"][0]["stop_reason"] == "max_tokens"
    assert answer["usage"]["output_tokens"] == 5 and answer["usage"]["input_tokens"] > 5
    assert answer["responses"][0]["output_tokens"] == 5
    assert answer["usage"]["duration_ms"] == round(answer["usage"]["duration"] * 1000) > 0


def test_stream_says_what_the_whole_answer_says(alice: Client) -> None:
    body = {"messages": SKY, "max_tokens": 12, "temperature": 0}
    whole = alice.post("/v1/generate_response", body)
    chunks = alice.stream("/v1/generate_response", {**body, "stream": True})
    assert [chunk["type"] for chunk in chunks] == ["delta"] * (len(chunks) - 1) + ["stop"]
    assert "".join(chunk["delta"] for chunk in chunks[:-1]) == whole["message"]["content"]
    stop = chunks[-1]
    assert (stop["model"], stop["revision"], stop["stop_reason"]) == ("smollm2-135m", 0, "max_tokens")
    assert stop["usage"]["output_tokens"] == 12 and stop["usage"]["duration_ms"] > 0
    assert stop["id"] != whole["id"]


def test_fresh_copy_answers_as_its_base(alice: Client) -> None:
    alice.create("Copy")
    copy, base = (alice.greedy(model, "Name a colour.") for model in ("copy", "smollm2-135m"))
    assert copy["message"] == base["message"]
    assert copy["model"] == "copy"


def test_samples_come_in_the_shape_that_train_takes(alice: Client) -> None:
    body = {"messages": SKY, "max_tokens": 6, "n": 4, "temperature": 1.5, "seed": 7}
    responses = alice.post("/v1/generate_response", body)["responses"]
    assert len(responses) == 4
    assert len({response["content"] for response in responses}) > 1
    assert alice.post("/v1/generate_response", body)["responses"] == responses


def test_greedy_samples_are_equal(alice: Client) -> None:
    body = {"messages": SKY, "max_tokens": 4, "n": 3, "temperature": 0}
    responses = alice.post("/v1/generate_response", body)["responses"]
    assert len(responses) == 3 and len({response["content"] for response in responses}) == 1


def test_stop_sequence_ends_the_answer_before_itself(alice: Client) -> None:
    body = {"messages": SKY, "max_tokens": 30, "temperature": 0, "stop": ["blue"]}
    answer = alice.post("/v1/generate_response", body)
    assert answer["stop_reason"] == "stop_sequence"
    assert "blue" not in answer["message"]["content"]


def test_end_of_turn_ends_the_answer(alice: Client) -> None:
    answer = alice.greedy("smollm2-135m", "Say only the word yes.", 60)
    assert answer["stop_reason"] == "end_turn"
    assert "<|im_end|>" not in answer["message"]["content"]


def test_too_long_a_prompt_is_refused_with_both_numbers(alice: Client) -> None:
    body = {"model": "twin", "messages": [{"role": "user", "content": "word " * 600}]}
    for request in (body, {**body, "stream": True}):
        error = alice.post("/v1/generate_response", request, 422)["error"]
        assert error["code"] == "context_length_exceeded" and error["param"] == "messages"
        assert "512" in error["message"] and "6" in error["message"]


def test_prompt_and_max_tokens_must_fit_together(alice: Client) -> None:
    body = {"model": "twin", "messages": SKY, "max_tokens": 500}
    assert alice.post("/v1/generate_response", body, 422)["error"]["code"] == "context_length_exceeded"


def test_unicode_survives_streaming(alice: Client) -> None:
    body = {
        "messages": [{"role": "user", "content": "Repeat: 日本語 🎉 é"}],
        "max_tokens": 24,
        "temperature": 0,
    }
    whole = alice.post("/v1/generate_response", body)["message"]["content"]
    chunks = alice.stream("/v1/generate_response", {**body, "stream": True})
    assert "".join(chunk.get("delta", "") for chunk in chunks) == whole


def test_clients_that_go_away_leave_no_generation(system: System, alice: Client) -> None:
    body = {"messages": SKY, "max_tokens": 900, "stream": True, "temperature": 1}

    def look_once(_: int) -> None:
        with alice.http.stream("POST", "/v1/generate_response", json=body) as answer:
            assert json.loads(next(answer.iter_lines()))["type"] == "delta"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look_once, range(8)))
    deadline = time.monotonic() + 60
    while (left := int(system.run_inside(UNFINISHED))) and time.monotonic() < deadline:
        continue
    assert left == 0
