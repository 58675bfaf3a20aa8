"""Training over HTTP, in the real system: Ray Train and TRL train, and vLLM serves the new revision."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from registry.records import Message, RewardedResponse
from registry.revisions import Revisions
from serve_app.instance.processes import wait_until
from tests.support.system import Client, System, training
from training.conversation import tokenise

PROMPT = "What is your favourite colour?"
REWARDS = {"Green.": 1.0, "I do not have one.": 0.0, "Blue, like the sky.": 0.0, "Colours are nice.": 0.0}
FAST = {"learning_rate": 2e-4, "learning_steps": 4, "beta": 0.01}


def log_probabilities(system: System, alice: Client, model: str, tmp_path: Path) -> dict[str, float]:
    """The log-probability of every response, by transformers and PEFT with the adapter as it is published."""
    weights = system.instance.settings.weights_directory.expanduser() / "smollm2-135m"
    policy: Any = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    revision = alice.get(f"/v1/models/{model}")["revision"]
    uid = system.uid(alice, model)
    if revision:
        Revisions(system.instance.store()).fetch(uid, revision, tmp_path / f"{uid}-{revision}")
        policy = PeftModel.from_pretrained(policy, tmp_path / f"{uid}-{revision}")
    found = {}
    for response in REWARDS:
        exchange = tokenise(
            tokenizer,
            [Message(role="user", content=PROMPT)],
            RewardedResponse(content=response, reward=0),
            512,
        )
        ids = torch.tensor([exchange.prompt_ids + exchange.completion_ids])
        with torch.no_grad():
            logs = policy(ids).logits[0, :-1].log_softmax(-1)
        picked = logs.gather(1, ids[0, 1:, None])[len(exchange.prompt_ids) - 1 :]
        found[response] = float(picked.sum())
    return found


def test_rewards_teach(system: System, alice: Client, tmp_path: Path) -> None:
    alice.create("Pupil")
    base_before = alice.greedy("smollm2-135m", PROMPT)["message"]
    before = log_probabilities(system, alice, "pupil", tmp_path)
    for revision in range(1, 9):
        done = alice.train("pupil", PROMPT, REWARDS, **FAST)
        assert done["revision"] == revision
        answer = alice.greedy("pupil", PROMPT)
        assert answer["revision"] == revision
        if answer["message"]["content"] == "Green.":
            break
    assert answer["message"]["content"] == "Green."
    after = log_probabilities(system, alice, "pupil", tmp_path)
    gained = {response: after[response] - before[response] for response in REWARDS}
    assert all(gained["Green."] > gained[other] + 5 for other in REWARDS if other != "Green."), gained

    assert alice.greedy("smollm2-135m", PROMPT)["message"] == base_before
    assert alice.greedy("pupil@0", PROMPT)["message"] == base_before
    alice.create("Child", parent="pupil")
    child = alice.get("/v1/models/child")
    assert (child["revision"], child["parent_model"], child["rank"]) == (0, "Pupil", 8)
    assert alice.greedy("child", PROMPT)["message"]["content"] == "Green."

    back = alice.post("/v1/models/pupil/revisions/0/activate")
    assert back["revision"] == 0
    assert alice.greedy("pupil", PROMPT)["message"] == base_before
    assert alice.train("pupil", PROMPT, REWARDS, **FAST)["revision"] == revision + 1
    newest = alice.get("/v1/models/pupil/revisions")[0]
    assert (newest["revision"], newest["parent_revision"]) == (revision + 1, 0)
    prefix = f"models/{system.uid(alice, 'pupil')}/revisions/"
    latest = [f"{prefix}{revision + 1:06}/optimizer.safetensors"]

    def optimizers() -> list[str]:
        return [key for key in system.instance.store().list(prefix) if key.endswith("/optimizer.safetensors")]

    assert wait_until(lambda: optimizers() == latest, 60), optimizers()
    alice.call("DELETE", "/v1/models/pupil")
    assert alice.greedy("child", PROMPT)["message"]["content"] == "Green."


def test_streamed_training_tells_every_step(alice: Client) -> None:
    alice.create("Streamed")
    body = training("streamed", PROMPT, REWARDS, **FAST, stream=True)
    chunks = alice.stream("/v1/train", body)
    assert {chunk["type"] for chunk in chunks[:-1]} == {"info", "progress"}
    steps = [chunk for chunk in chunks if chunk["type"] == "progress"]
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    fields = "type step steps loss kl clip_ratio grad_norm reward_mean reward_std learning_rate seconds"
    assert all(set(step) == set(fields.split()) for step in steps)
    assert steps[0]["kl"] == 0 and steps[0]["clip_ratio"] == 0
    assert steps[-1]["kl"] > 0 and steps[0]["reward_mean"] == 0.25
    stop = chunks[-1]
    assert stop["type"] == "stop" and stop["revision"] == 1 and stop["model"] == "streamed"
    assert stop["usage"]["trained_tokens"] > 0 and stop["usage"]["duration"] > 0

    job = alice.get(f"/v1/jobs/{stop['job']}")
    assert (job["status"], job["step"], job["steps"], job["revision"]) == ("succeeded", 4, 4, 1)
    with alice.http.stream("GET", f"/v1/jobs/{stop['job']}/events?follow=true") as answer:
        # How far a step is is told while it is made, to those who look, and is not kept.
        kept = [chunk for chunk in chunks if not chunk.get("message", "").startswith("Step ")]
        assert [json.loads(line) for line in answer.iter_lines()] == kept


def test_background_training_of_groups_is_a_job(alice: Client, bob: Client) -> None:
    alice.create("Grouped", parent="twin")
    groups = [
        {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}],
            "responses": [{"content": "Red.", "reward": 2}, {"content": "None.", "reward": -1}],
        },
        {
            "messages": [{"role": "user", "content": "Hi"}],
            "responses": [{"content": word, "reward": 0.5} for word in ("Hi.", "Hello.", "Hey.")],
        },
    ]
    body = {"model": "grouped", "groups": groups, "learning_steps": 2, "background": True}
    job = alice.post("/v1/train", body, 202)
    assert (job["status"], job["model"], job["steps"], job["error"]) == ("queued", "grouped", 2, None)
    assert alice.get("/v1/models/grouped")["status"] == "training"
    assert alice.call("DELETE", "/v1/models/grouped", status=409)["error"]["code"] == "model_in_use"
    assert bob.get(f"/v1/jobs/{job['id']}", 404) == bob.get("/v1/jobs/job-0", 404)
    bob.get(f"/v1/jobs/{job['id']}/events", 404)
    assert bob.get("/v1/jobs") == []
    alice.http.get(f"/v1/jobs/{job['id']}/events?follow=true").read()
    assert alice.get(f"/v1/jobs/{job['id']}")["status"] == "succeeded"
    assert alice.get("/v1/models/grouped")["status"] == "ready"
    assert alice.get("/v1/jobs?status=succeeded&model=Grouped")[0]["id"] == job["id"]
    assert alice.get("/v1/jobs?status=failed") == []


def test_requests_wait_while_their_gpu_trains(alice: Client, bob: Client) -> None:
    """`twin` has `share_gpu`. Its engine pauses on a machine without a GPU too."""
    alice.create("Sharing", parent="twin")
    body = training("sharing", PROMPT, REWARDS, learning_steps=3, stream=True)
    with (
        ThreadPoolExecutor(1) as pool,
        alice.http.stream("POST", "/v1/train", json=body) as chunks,
    ):
        waiting = None
        for line in chunks.iter_lines():
            chunk = json.loads(line)
            if chunk["type"] == "progress" and waiting is None:
                waiting = pool.submit(bob.greedy, "twin", PROMPT, 4)
            if chunk["type"] == "progress" and chunk["step"] < chunk["steps"]:
                assert waiting is not None and not waiting.done()
        assert chunk["type"] == "stop"
        assert waiting is not None and waiting.result()["usage"]["output_tokens"] > 0


def test_bad_trainings_are_refused_before_they_are_jobs(alice: Client) -> None:
    alice.create("Careful", parent="twin")
    equal = dict.fromkeys(REWARDS, 1.0)
    for body, code, param in (
        (training("careful", PROMPT, equal), "no_learning_signal", "responses"),
        (training("careful", PROMPT, {"one": 1.0}), "invalid_request", "responses"),
        (
            training("careful", PROMPT, {"a": 1.0, "b " * 600: 0.0}),
            "context_length_exceeded",
            "responses.1.content",
        ),
        (training("careful", PROMPT, REWARDS, learning_steps=0), "invalid_request", "learning_steps"),
        (training("careful", PROMPT, REWARDS, epsilon=1), "invalid_request", "epsilon"),
        (training("careful", PROMPT, REWARDS, groups=[]), "invalid_request", "groups"),
        ({"model": "careful"}, "invalid_request", None),
    ):
        error = alice.post("/v1/train", body, 422)["error"]
        assert (error["code"], error["param"]) == (code, param), error
    assert alice.get("/v1/jobs") == []


def test_trainings_queue_up_while_generation_goes_on(alice: Client) -> None:
    """Revisions appear in order. Every answer is wholly that of the revision that it names."""
    alice.create("Busy")
    num_trainings = 4
    answers: list[tuple[int, str]] = []
    is_over = threading.Event()

    def talk() -> None:
        while not is_over.is_set():
            answer = alice.greedy("busy", PROMPT, 8)
            answers.append((answer["revision"], answer["message"]["content"]))

    with ThreadPoolExecutor(num_trainings + 1) as pool:
        talking = pool.submit(talk)
        try:
            trainings = [
                pool.submit(alice.train, "busy", PROMPT, REWARDS, **FAST) for _ in range(num_trainings)
            ]
            revisions = [done.result()["revision"] for done in trainings]
        finally:
            is_over.set()
        talking.result()
    assert sorted(revisions) == list(range(1, num_trainings + 1))
    assert [revision for revision, _ in answers] == sorted(revision for revision, _ in answers)
    assert len({revision for revision, _ in answers}) >= 3
    for revision, content in set(answers):
        assert alice.greedy(f"busy@{revision}", PROMPT, 8)["message"]["content"] == content


def test_more_adapters_than_a_replica_keeps_are_served(alice: Client) -> None:
    """The replica keeps three adapters. Revisions displace each other and come back from the bucket."""
    alice.create("Many")
    for _ in range(4):
        alice.train("many", PROMPT, REWARDS, **{**FAST, "learning_steps": 1})
    first = [alice.greedy(f"many@{n}", PROMPT, 6)["message"] for n in range(5)]
    assert [alice.greedy(f"many@{n}", PROMPT, 6)["message"] for n in range(5)] == first
    alice.post(
        "/v1/generate_response",
        {"model": "many@5", "messages": [{"role": "user", "content": "x"}]},
        404,
    )


def long_training(model: str, steps: int) -> dict[str, Any]:
    """A training of 24 responses with hundreds of tokens each, of which a step takes minutes."""
    rewards = {f"{number} " + "and so it goes on " * 60: float(number % 3) for number in range(24)}
    return training(model, PROMPT, rewards, learning_steps=steps, background=True)


def test_long_training_gives_way_and_is_cancelled_within_a_pack(alice: Client, bob: Client) -> None:
    alice.create("Endless")
    bob.create("Brief")
    job = alice.post("/v1/train", long_training("endless", 50), 202)
    with alice.http.stream("GET", f"/v1/jobs/{job['id']}/events?follow=true") as answer:
        lines = map(json.loads, answer.iter_lines())
        assert next(line for line in lines if line.get("message", "").startswith("Step 1 of 50: "))
        assert bob.train("brief", PROMPT, REWARDS, learning_steps=1)["revision"] == 1
        assert next(line for line in lines if line.get("message") == "Going on")
        running = alice.get(f"/v1/jobs/{job['id']}")
        assert (running["status"], running["step"]) == ("running", 0), "it has not made its first step"

        alice.post(f"/v1/jobs/{job['id']}/cancel")
        assert (
            next(line for line in lines if line["type"] == "error")["error"]["code"] == "training_cancelled"
        )
    assert alice.get(f"/v1/jobs/{job['id']}")["step"] == 0, "it went on to the end of its step"
    assert alice.get("/v1/models/endless")["revision"] == 0


def test_paused_training_is_cancelled_at_once(alice: Client, bob: Client) -> None:
    alice.create("First")
    bob.create("Second")
    jobs = [
        client.post("/v1/train", long_training(model, 50), 202)["id"]
        for client, model in ((alice, "first"), (bob, "second"))
    ]
    with alice.http.stream("GET", f"/v1/jobs/{jobs[0]}/events?follow=true") as answer:
        lines = map(json.loads, answer.iter_lines())
        assert next(line for line in lines if line.get("message", "").startswith("Paused: "))
        assert alice.post(f"/v1/jobs/{jobs[0]}/cancel")["status"] in ("cancelled", "running")
        assert [line["type"] for line in lines][-1] == "error"
    bob.post(f"/v1/jobs/{jobs[1]}/cancel")
    bob.http.get(f"/v1/jobs/{jobs[1]}/events?follow=true").read()
    for client, job, model in ((alice, jobs[0], "first"), (bob, jobs[1], "second")):
        assert client.get(f"/v1/jobs/{job}")["status"] == "cancelled"
        assert client.get(f"/v1/models/{model}")["status"] == "ready"


def test_training_that_diverges_makes_no_revision(alice: Client) -> None:
    alice.create("Wild", alpha=1000)
    body = training("wild", PROMPT, REWARDS, learning_rate=0.1, learning_steps=8)
    error = alice.post("/v1/train", body, 422)["error"]
    assert error["code"] == "training_diverged" and "diverged at step" in error["message"], error
    assert alice.get("/v1/models/wild")["revision"] == 0
    chunks = alice.stream("/v1/train", body | {"stream": True})
    assert chunks[-1]["type"] == "error" and chunks[-1]["error"]["code"] == "training_diverged"
    assert alice.get("/v1/jobs")[0]["error"]["code"] == "training_diverged"
