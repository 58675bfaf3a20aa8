"""Every route over real HTTP, with a fake model server: see `tests.support.service`."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from registry.keys import ApiKeys, hash_key
from serve_app.deployments import APPLICATION, TRAINER
from serve_app.object_server import stop
from tests.support.service import (
    HELLO,
    MAX_REQUEST_BYTES,
    RESPONSES,
    Account,
    Service,
    assert_error,
    assert_one_request_id,
    assigned,
    chunks_of,
    train_once,
    wait_until,
)

# Keys


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "tiger_abc",
        "Basic YTpi",
        "Bearer tiger_unknown",
        "Bearer " + "k" * 5000,
    ],
)
def test_request_without_a_good_key_is_refused(service: Service, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/train"), ("GET", "/v1/jobs/x/events")):
        body = (
            {"json": {"model": "mine", "messages": HELLO, "responses": RESPONSES}} if method == "POST" else {}
        )
        response = httpx.request(method, service.url + path, headers=headers, trust_env=False, **body)
        assert_error(response, 401, "invalid_api_key")
        assert response.headers["www-authenticate"] == "Bearer"


def test_revoked_key_is_refused_within_five_seconds(service: Service, alice: Account) -> None:
    assert alice.http.get("/v1/models").status_code == 200
    ApiKeys(service.store).revoke(hash_key(alice.key))
    wait_until(lambda: alice.http.get("/v1/models").status_code == 401, 5)
    assert_error(alice.http.get("/v1/models"), 401, "invalid_api_key")


# Models


def test_listing_has_base_models_first_then_ones_own(alice: Account, bob: Account) -> None:
    alice.create("B")
    alice.create("A", parent="Two")
    bob.create("C")
    listing = alice.http.get("/v1/models")
    assert listing.headers["content-type"] == "application/json"
    assert [model["name"] for model in listing.json()] == ["One", "Two", "B", "A"]
    assert [model["default_model"] for model in listing.json()] == [True, False, False, False]


def test_listing_has_the_fields_of_the_contract(alice: Account) -> None:
    alice.create("Mine")
    fields = {
        "name", "id", "description", "read_only", "revision", "last_modified", "default_model", "temperature",
        "top_p", "learning_rate", "learning_steps", "beta", "epsilon",
    }  # fmt: skip
    base, _, mine = alice.http.get("/v1/models").json()
    assert set(base) == fields
    assert set(mine) == fields | {"parent_model"}
    assert (mine["parent_model"], mine["read_only"], mine["revision"]) == ("One", False, 0)
    assert mine["last_modified"].endswith("Z") and len(mine["last_modified"]) == len(
        "2025-02-02T12:34:58.488Z"
    )


def test_listing_as_ndjson_has_the_objects_of_the_array(alice: Account) -> None:
    alice.create("Mine")
    lines = alice.http.get("/v1/models", headers={"Accept": "application/x-ndjson"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in lines.text.splitlines()] == alice.http.get("/v1/models").json()


def test_curl_line_of_the_seed_works(service: Service, alice: Account) -> None:
    command = ["curl", "--silent", "--noproxy", "*", f"{service.url}/v1/models"]
    answer = subprocess.run(
        [*command, "-H", f"Authorization: Bearer {alice.key}"], capture_output=True, check=True
    )
    assert json.loads(answer.stdout) == alice.http.get("/v1/models").json()


def test_created_model_has_its_defaults(alice: Account) -> None:
    model = alice.create("MyCustomModel", beta=0.8)
    assert model["id"] == "mycustommodel"
    assert (model["rank"], model["alpha"], model["dropout"], model["base_model"]) == (8, 16, 0, "one")
    assert (model["beta"], model["epsilon"], model["status"]) == (0.8, 0.2, "ready")
    for ref in ("mycustommodel", "MyCustomModel"):
        assert alice.http.get(f"/v1/models/{ref}").json() == model


def test_name_with_spaces_is_found_url_encoded(alice: Account) -> None:
    model = alice.create("Mein Modell \u00e9%?#")
    assert alice.http.get("/v1/models/Mein%20Modell%20%C3%A9%25%3F%23").json() == model


def test_base_model_has_detail_too(alice: Account) -> None:
    detail = alice.http.get("/v1/models/One").json()
    assert (detail["base_model"], detail["status"], detail["read_only"]) == ("one", "ready", True)


@pytest.mark.parametrize("name", ["Mine", "mine", "One", "one"])
def test_name_that_means_another_model_is_taken(alice: Account, name: str) -> None:
    alice.create("Mine")
    body = {"name": name, "description": "", "parent_model": "one"}
    assert_error(alice.http.post("/v1/models", json=body), 409, "name_taken", "name")


def test_one_of_many_creations_of_a_name_wins(alice: Account) -> None:
    body = {"name": "Mine", "description": "", "parent_model": "one"}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: alice.http.post("/v1/models", json=body).status_code, range(10)))
    assert sorted(answers) == [201] + [409] * 9


def test_change_keeps_the_id(alice: Account) -> None:
    alice.create("Mine")
    changed = alice.http.patch("/v1/models/mine", json={"name": "Yours", "temperature": 0}).json()
    assert (changed["id"], changed["name"], changed["temperature"]) == ("mine", "Yours", 0)
    assert alice.http.get("/v1/models/Yours").json() == changed
    assert_error(alice.http.get("/v1/models/Mine"), 404, "model_not_found", "model")


def test_deleted_model_is_gone_from_replicas_too(service: Service, alice: Account) -> None:
    alice.create("Mine")
    job = alice.train("mine", background=True).json()
    record = json.loads(service.store.get(f"jobs/{alice.user}/{job['id']}/job.json").body)
    service.work("one", service.signals)
    wait_until(lambda: alice.http.get("/v1/models/mine").json()["status"] == "ready", 10)
    response = alice.http.delete("/v1/models/mine")
    assert response.json() == {"id": "mine", "message": "model has been deleted"}
    assert_error(alice.http.get("/v1/models/mine"), 404, "model_not_found", "model")
    assert (service.signals / f"unloaded {record['uid']}").exists()
    assert service.store.list(f"models/{record['uid']}/") == []


@pytest.mark.parametrize("ref", ["one", "One"])
def test_base_model_is_read_only(alice: Account, ref: str) -> None:
    path = f"/v1/models/{ref}"
    assert_error(alice.http.patch(path, json={"description": "mine"}), 403, "model_read_only", "model")
    assert_error(alice.http.delete(path), 403, "model_read_only", "model")
    assert_error(alice.http.post(f"{path}/revisions/0/activate"), 403, "model_read_only", "model")
    assert_error(alice.train(ref), 403, "model_read_only", "model")


def test_another_users_model_answers_like_one_that_does_not_exist(alice: Account, bob: Account) -> None:
    bob.create("Theirs", parent="two")
    bob.train("theirs", background=True)

    def answers(ref: str) -> list[tuple[int, bytes]]:
        path = f"/v1/models/{ref}"
        responses = [
            alice.http.get(path),
            alice.http.get(f"{path}@0"),
            alice.http.patch(path, json={"description": "mine"}),
            alice.http.delete(path),
            alice.http.get(f"{path}/revisions"),
            alice.http.post(f"{path}/revisions/0/activate"),
            alice.http.post("/v1/models", json={"name": "X", "description": "", "parent_model": ref}),
            alice.generate(model=ref),
            alice.train(ref),
        ]
        for response in responses:
            param = "parent_model" if response.request.url.path == "/v1/models" else "model"
            assert_error(response, 404, "model_not_found", param)
        return [(response.status_code, response.content) for response in responses]

    assert answers("theirs") == answers("nothing")


def test_revision_that_does_not_exist_is_not_found(alice: Account) -> None:
    alice.create("Mine")
    assert_error(alice.http.get("/v1/models/mine@1"), 404, "revision_not_found", "model")
    assert_error(alice.generate(model="mine@1"), 404, "revision_not_found", "model")
    assert_error(alice.http.post("/v1/models/mine/revisions/1/activate"), 404, "revision_not_found", "n")
    huge = "9" * 30
    assert alice.http.post(f"/v1/models/mine/revisions/{huge}/activate").status_code in (404, 422)


def test_too_many_models_are_a_quota(alice: Account) -> None:
    for number in range(8):
        alice.create(f"Model {number}")
    response = alice.http.post("/v1/models", json={"name": "X", "description": "", "parent_model": "one"})
    assert_error(response, 429, "quota_exceeded")


# Generate


def test_answer_is_in_the_shape_of_the_contract(alice: Account) -> None:
    answer = alice.generate(model="one", n=2).json()
    assert set(answer) == {"model", "revision", "message", "responses", "stop_reason", "usage"}
    assert answer["responses"][0] == {"content": answer["message"]["content"], "stop_reason": "end_turn"}
    assert len(answer["responses"]) == 2
    assert answer["usage"] == {"input_tokens": 3, "output_tokens": 4, "duration": 0.25}


def test_default_model_answers_when_none_is_named(alice: Account) -> None:
    assert alice.generate().json()["model"] == "one"


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


# Train


def test_training_answers_when_the_revision_serves(service: Service, alice: Account, tmp_path: Path) -> None:
    alice.create("Mine")
    answer = train_once(service, alice, tmp_path)
    job = answer.pop("job")
    assert answer == {
        "model": "mine",
        "revision": 1,
        "metrics": {"loss": 0.5},
        "usage": {"trained_tokens": 40, "duration": 1.5},
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
        trainer = serve.get_deployment_handle(TRAINER, APPLICATION)
        assignment = assigned("one")
        report = trainer.fail.remote(assignment.job_id, assignment.attempt, "training_failed", "no luck")
        report.result(timeout_s=30)
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
    """With a reward added to each, and nothing else."""
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
    """A thousand of them fit the context, so each response by itself is short enough."""
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


# Bad input


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
        ("/v1/generate_response", {"messages": []}, "messages"),
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
    ],
)
def test_bad_field_is_named(alice: Account, path: str, body: Any, param: str | None) -> None:
    alice.create("Mine")
    assert_error(alice.http.post(path, json=body), 422, "invalid_request", param)


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


# Routes and operations


def test_unknown_route_and_method_have_the_error_shape(alice: Account) -> None:
    assert_error(alice.http.get("/v1/nothing"), 404, "route_not_found")
    assert_error(alice.http.put("/v1/models"), 405, "method_not_allowed")


def test_request_id_of_the_client_is_kept(alice: Account) -> None:
    response = alice.http.get("/v1/models", headers={"X-Request-Id": "mine-1"})
    assert response.headers.get_list("x-request-id") == ["mine-1"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs"])
def test_operations_and_documents_need_no_key(service: Service, path: str) -> None:
    response = httpx.get(service.url + path, trust_env=False, timeout=30)
    assert response.status_code == 200, response.text
    assert_one_request_id(response)


def test_openapi_describes_every_route(service: Service) -> None:
    paths = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()["paths"]
    assert set(paths) >= {
        "/v1/models", "/v1/models/{ref}", "/v1/models/{ref}/revisions",
        "/v1/models/{ref}/revisions/{n}/activate", "/v1/generate_response", "/v1/train", "/v1/jobs",
        "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/events", "/v1/usage", "/healthz", "/readyz",
    }  # fmt: skip


def test_stream_of_a_training_outlives_the_trainer(service: Service, alice: Account, tmp_path: Path) -> None:
    """Progress is saved once a second at most: what is taken up again may be less than what was shown."""
    alice.create("Mine")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(alice.train, stream=True)
        trainer = serve.get_deployment_handle(TRAINER, APPLICATION)
        lost = assigned("one")
        for number in range(20):
            message = f"message {number}"
            trainer.inform.remote(lost.job_id, lost.attempt, message).result(timeout_s=30)
        names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
        replica = next(name for name in names if f"{APPLICATION}#{TRAINER}#" in name)
        ray.kill(ray.get_actor(replica, namespace="serve"))
        service.work("one", tmp_path)
        chunks = chunks_of(answer.result(timeout=60))
    assert (chunks[-1]["type"], chunks[-1]["revision"]) == ("stop", 1)


# Things that are away: last, because they take the application apart and put it together again


def test_readiness_names_the_base_model_without_a_replica(service: Service) -> None:
    down = service.signals / "down two"
    down.touch()
    try:
        wait_until(lambda: httpx.get(f"{service.url}/readyz", trust_env=False).status_code == 503, 60)
        response = httpx.get(f"{service.url}/readyz", trust_env=False)
        assert_error(response, 503, "unavailable")
        assert "two" in response.json()["error"]["message"]
        assert "one" not in response.json()["error"]["message"]
        assert httpx.get(f"{service.url}/healthz", trust_env=False).status_code == 200
    finally:
        down.unlink()
    wait_until(lambda: httpx.get(f"{service.url}/readyz", trust_env=False).status_code == 200, 60)


def test_storage_away_is_unavailable_but_what_is_known_is_listed(service: Service, alice: Account) -> None:
    alice.create("Mine")
    listing = alice.http.get("/v1/models").json()
    stranger = service.user()
    stop(service.object_process.pid)
    service.object_process.wait()
    try:
        assert alice.http.get("/v1/models").json() == listing
        body = {"name": "New", "description": "", "parent_model": "one"}
        assert_error(alice.http.post("/v1/models", json=body), 503, "unavailable")
        assert_error(alice.train(), 503, "unavailable")
        assert alice.generate(model="mine").status_code == 200
        assert_error(stranger.http.get("/v1/models"), 503, "unavailable")
        ready = httpx.get(f"{service.url}/readyz", trust_env=False, timeout=30)
        assert_error(ready, 503, "unavailable")
        assert "storage" in ready.json()["error"]["message"]
        assert service.object_server.endpoint_url.rpartition(":")[2] not in ready.text
    finally:
        service.object_process = service.object_server.start()
    assert stranger.http.get("/v1/models").status_code == 200
    assert alice.create("New")["id"] == "new"
