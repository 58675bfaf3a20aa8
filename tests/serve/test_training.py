"""Training and its jobs over real HTTP. The test acts as the worker: see `tests.support.service`."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray

from serve_app.deployment_options import APPLICATION, TRAINER
from tests.support.account import HELLO, Account, assert_error, assert_one_request_id, chunks_of
from tests.support.service import Service, assigned, controller, report_failure, train_once
from tests.support.waiting import wait_until
from training.types import Controller


def test_training_answers_when_the_revision_serves(service: Service, alice: Account, tmp_path: Path) -> None:
    alice.create("Mine")
    answer = train_once(service, alice, tmp_path)
    job = answer.pop("job")
    assert answer == {
        "model": "mine",
        "revision": 1,
        "metrics": {"loss": 0.5},
        "usage": {"trained_tokens": 40, "duration": 1.5, "duration_ms": 1500},
    }
    assert alice.http.get("/v1/models/mine").json()["revision"] == 1
    call = json.loads(alice.generate(model="mine").json()["message"]["content"])
    assert call["adapter_id"].endswith("@1")
    assert (service.signals / f"preloaded {call['adapter_id']}").exists()
    revisions = alice.http.get("/v1/models/mine/revisions").json()
    assert [(r["revision"], r["parent_revision"], r["job"]) for r in revisions] == [(1, 0, job)]
    assert set(revisions[0]) == {
        "revision", "parent_revision", "created", "job", "metrics", "size_bytes", "sha256",
    }  # fmt: skip


def test_streamed_training_shows_its_steps(service: Service, alice: Account, tmp_path: Path) -> None:
    alice.create("Mine")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(alice.train, stream=True)
        service.work("one", tmp_path)
        chunks = chunks_of(answer.result(timeout=30))
    assert {chunk["type"] for chunk in chunks} == {"info", "progress", "stop"}
    progress = next(chunk for chunk in chunks if chunk["type"] == "progress")
    assert (progress["step"], progress["steps"]) == (1, 5)
    assert (chunks[-1]["revision"], chunks[-1]["model"]) == (1, "mine")


def test_rollback_and_training_from_there(service: Service, alice: Account, tmp_path: Path) -> None:
    alice.create("Mine")
    train_once(service, alice, tmp_path)
    rolled_back = alice.http.post("/v1/models/mine/revisions/0/activate").json()
    assert rolled_back["revision"] == 0
    assert json.loads(alice.generate(model="mine").json()["message"]["content"])["adapter_id"] is None
    assert train_once(service, alice, tmp_path)["revision"] == 2
    revisions = alice.http.get("/v1/models/mine/revisions").json()
    assert [(r["revision"], r["parent_revision"]) for r in revisions] == [(2, 0), (1, 0)]


def test_copy_of_a_trained_model_outlives_it(service: Service, alice: Account, tmp_path: Path) -> None:
    alice.create("Mine")
    train_once(service, alice, tmp_path)
    assert alice.create("Child", parent="Mine")["revision"] == 0
    wait_until(lambda: alice.http.delete("/v1/models/mine").status_code == 200, 5)
    call = json.loads(alice.generate(model="child").json()["message"]["content"])
    assert call["adapter_id"].endswith("@0")
    assert [r["revision"] for r in alice.http.get("/v1/models/child/revisions").json()] == [0]


def test_failed_training_is_an_error_for_who_waits(service: Service, alice: Account) -> None:
    alice.create("Mine")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(alice.train)
        assignment = assigned("one")
        report_failure(assignment)
        response = answer.result(timeout=30)
    assert_error(response, 500, "training_failed")


def test_background_training_is_a_job(alice: Account) -> None:
    alice.create("Mine", parent="two")
    response = alice.train(background=True, learning_steps=7)
    assert response.status_code == 202
    assert_one_request_id(response)
    job = response.json()
    assert (job["status"], job["model"], job["steps"], job["step"]) == ("queued", "mine", 7, 0)
    assert alice.http.get(f"/v1/jobs/{job['id']}").json() == job
    assert alice.http.get("/v1/jobs").json() == [job]
    assert alice.http.get("/v1/models/mine").json()["status"] == "training"
    assert_error(alice.http.delete("/v1/models/mine"), 409, "model_in_use", "model")


def test_responses_are_trained_as_they_were_generated(service: Service, alice: Account) -> None:
    """The client adds a reward to each response and changes nothing else."""
    alice.create("Mine", parent="two")
    responses = alice.generate(model="mine", n=2).json()["responses"]
    rewarded = [{**response, "reward": number} for number, response in enumerate(responses)]
    rewarded.append({"content": "cut", "stop_reason": "max_tokens", "reward": 0})
    answer = alice.train(responses=rewarded, background=True)
    assert answer.status_code == 202, answer.text
    request = json.loads(service.store.get(f"jobs/{alice.user}/{answer.json()['id']}/request.json").body)
    assert [response["ends_turn"] for response in request["groups"][0]["responses"]] == [True, True, False]
    assert_error(
        alice.train(responses=[{**rewarded[0], "stop_reason": "bored"}] * 2),
        422,
        "invalid_request",
        "responses.0.stop_reason",
    )


def test_too_many_unfinished_trainings_are_a_quota(alice: Account) -> None:
    alice.create("Mine", parent="two")
    for _ in range(3):
        assert alice.train(background=True).status_code == 202
    assert_error(alice.train(background=True), 429, "quota_exceeded")


def rewarded(*contents: str) -> list[dict[str, Any]]:
    return [{"content": content, "reward": reward} for reward, content in enumerate(contents)]


def assert_over_limit(response: httpx.Response, param: str, number: int, limit: int) -> None:
    assert_error(response, 422, "invalid_request", param)
    message = response.json()["error"]["message"]
    assert str(number) in message and str(limit) in message


def test_too_many_tokens_in_one_training_are_refused(alice: Account) -> None:
    """A thousand tokens fit the context, so each response by itself is short enough."""
    alice.create("Mine", parent="two")
    long = ["a" * 1000, "b" * 1000, "c" * 1000]
    assert alice.train(responses=rewarded(*long), background=True).status_code == 202
    assert_over_limit(alice.train(responses=rewarded(*long, "d")), "responses", 3001, 3000)
    groups = [{"messages": HELLO, "responses": rewarded(*long[:2])}] * 2
    assert_over_limit(alice.train(groups=groups), "groups", 4000, 3000)


def test_too_many_responses_in_one_training_are_refused(alice: Account) -> None:
    alice.create("Mine", parent="two")
    assert alice.train(responses=rewarded(*"abcdef"), background=True).status_code == 202
    assert_over_limit(alice.train(responses=rewarded(*"abcdefg")), "responses", 7, 6)
    groups = [{"messages": HELLO, "responses": rewarded(*"abcd")}] * 2
    assert_over_limit(alice.train(groups=groups), "groups", 8, 6)


def test_too_many_steps_are_refused_also_as_the_models_default(alice: Account) -> None:
    alice.create("Mine", parent="two", learning_steps=51)
    assert_over_limit(alice.train(), "learning_steps", 51, 50)
    assert_over_limit(alice.train(learning_steps=52), "learning_steps", 52, 50)
    assert alice.train(learning_steps=50, background=True).status_code == 202


def test_too_many_tokens_over_all_steps_are_refused(alice: Account) -> None:
    alice.create("Mine", parent="two", learning_steps=50)
    long = rewarded("a" * 1000, "b" * 1000, "c")
    assert_over_limit(alice.train(responses=long), "learning_steps", 2001 * 50, 100_000)
    assert alice.train(responses=long, learning_steps=49, background=True).status_code == 202


def test_equal_rewards_teach_nothing(alice: Account) -> None:
    alice.create("Mine")
    same = [{"content": "a", "reward": 1}, {"content": "b", "reward": 1.0}]
    assert_error(alice.train(responses=same), 422, "no_learning_signal", "responses")
    groups = [{"messages": HELLO, "responses": same}] * 2
    assert_error(alice.train(groups=groups), 422, "no_learning_signal", "groups")


def test_too_long_a_response_is_named(alice: Account) -> None:
    alice.create("Mine")
    long = [{"content": "a" * 2000, "reward": 1}, {"content": "b", "reward": 0}]
    assert_error(alice.train(responses=long), 422, "context_length_exceeded", "responses.0.content")


def test_stream_of_a_training_outlives_the_trainer(service: Service, alice: Account, tmp_path: Path) -> None:
    """Progress is saved at most once a second. The next Trainer may know less than the stream has shown."""
    alice.create("Mine")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(alice.train, stream=True)
        lost = assigned("one")
        calls = controller()
        for number in range(20):
            message = f"message {number}"
            calls.call(Controller.inform, lost.job_id, lost.attempt, message).result(timeout_s=30)
        names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
        replica = next(name for name in names if f"{APPLICATION}#{TRAINER}#" in name)
        ray.kill(ray.get_actor(replica, namespace="serve"))
        service.work("one", tmp_path)
        chunks = chunks_of(answer.result(timeout=60))
    assert (chunks[-1]["type"], chunks[-1]["revision"]) == ("stop", 1)


# Jobs


def test_jobs_are_listed_in_pages_and_by_filter(alice: Account) -> None:
    alice.create("Mine", parent="two")
    alice.create("Other", parent="two")
    ids = [alice.train(model, background=True).json()["id"] for model in ("mine", "mine", "other")]

    def listed(**query: Any) -> list[str]:
        response = alice.http.get("/v1/jobs", params=query)
        assert response.status_code == 200, response.text
        return [job["id"] for job in response.json()]

    assert listed() == ids[::-1]
    assert listed(limit=2) == ids[:0:-1]
    assert listed(after=ids[1]) == [ids[0]]
    assert listed(model="Mine") == [ids[1], ids[0]]
    assert listed(status="queued", model="other") == [ids[2]]
    assert listed(status="failed") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "status=lost", "limit=" + "9" * 5000])
def test_bad_query_is_refused(alice: Account, query: str) -> None:
    assert_error(alice.http.get(f"/v1/jobs?{query}"), 422, "invalid_request", query.split("=")[0])


def test_another_users_job_answers_like_one_that_does_not_exist(alice: Account, bob: Account) -> None:
    bob.create("Theirs", parent="two")
    theirs = bob.train("theirs", background=True).json()["id"]

    def answers(job_id: str) -> list[bytes]:
        paths = (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events", f"/v1/jobs/{job_id}/events?follow=true")
        responses = [alice.http.get(path) for path in paths]
        for response in responses:
            assert_error(response, 404, "job_not_found")
        return [response.content for response in responses]

    assert answers(theirs) == answers("job-" + "0" * 24) == answers("..%5Cx")
    assert alice.http.get("/v1/jobs").json() == []


def test_events_are_past_and_then_live(service: Service, alice: Account, tmp_path: Path) -> None:
    alice.create("Mine")
    path = f"/v1/jobs/{alice.train(background=True).json()['id']}/events"
    past = alice.http.get(path)
    assert [json.loads(line) for line in past.text.splitlines()] == [{"type": "info", "message": "Queued"}]
    with ThreadPoolExecutor(1) as pool, alice.http.stream("GET", path, params={"follow": True}) as live:
        lines = live.iter_lines()
        assert json.loads(next(lines))["message"] == "Queued"
        pool.submit(service.work, "one", tmp_path).result(timeout=30)
        kinds = [json.loads(line)["type"] for line in lines]
    assert kinds[-1] == "stop" and kinds.count("stop") == 1
    wait_until(lambda: service.store.list(f"jobs-active/{alice.user}/") == [], 10)
    saved = alice.http.get(path, params={"follow": True})
    assert [chunk["type"] for chunk in chunks_of(saved)] == ["info", *kinds]
