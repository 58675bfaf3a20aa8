"""Every route over real HTTP, with a fake model server: see `tests.support.service`."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from registry.keys import ApiKeys, hash_key
from serve_app.deployment_options import APPLICATION, model_server_name
from serve_app.instance.seaweedfs import stop
from tests.support.service import (
    HELLO,
    PAGE,
    RESPONSES,
    Account,
    Service,
    assert_error,
    assert_one_request_id,
    chunks_of,
)
from tests.support.waiting import wait_until

READY_S = 5
AT_ONCE_S = 3  # and not the minute that the next replica takes

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
        body: dict[str, Any] = (
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
    assert alice.train("mine", responses=responses, background=True).status_code == 202
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


# Routes and operations


def test_unknown_route_and_method_have_the_error_shape(alice: Account) -> None:
    assert_error(alice.http.get("/v1/nothing"), 404, "route_not_found")
    assert_error(alice.http.put("/v1/models"), 405, "method_not_allowed")


def test_request_id_of_the_client_is_kept(alice: Account) -> None:
    response = alice.http.get("/v1/models", headers={"X-Request-Id": "mine-1"})
    assert response.headers.get_list("x-request-id") == ["mine-1"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openai/health", "/openapi.json", "/docs"])
def test_operations_and_documents_need_no_key(service: Service, path: str) -> None:
    response = httpx.get(service.url + path, trust_env=False, timeout=30)
    assert response.status_code == 200, response.text
    assert_one_request_id(response)


@pytest.mark.parametrize(("path", "status"), [("/openai/v1/models", 200), ("/openai/v1/none", 404)])
def test_page_of_an_allowed_origin_asks_beforehand_and_reads_answers(
    service: Service, alice: Account, path: str, status: int
) -> None:
    asking = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = httpx.options(service.url + path, headers=asking, trust_env=False)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    answer = alice.http.get(path, headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
    refused = httpx.get(service.url + path, headers={"Origin": PAGE}, trust_env=False)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


def test_model_is_deleted_as_at_openai(alice: Account, bob: Account) -> None:
    alice.create("Mine")
    path = "/openai/v1/models/mine"
    assert alice.http.get(f"{path}@0").json()["id"] == "mine@0"
    assert_error(bob.http.delete(path), 404, "model_not_found", "model")
    assert_error(alice.http.delete(f"{path}@0"), 400, "invalid_request", "model")
    assert_error(alice.http.delete("/openai/v1/models/one"), 403, "model_read_only", "model")
    assert alice.http.delete(path).json() == {"id": "mine", "object": "model", "deleted": True}
    assert_error(alice.http.get(path), 404, "model_not_found", "model")


def test_openapi_describes_every_route(service: Service) -> None:
    paths = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()["paths"]
    assert set(paths) >= {
        "/v1/models", "/v1/models/{ref}", "/v1/models/{ref}/revisions",
        "/v1/models/{ref}/revisions/{n}/activate", "/v1/generate_response", "/v1/train", "/v1/jobs",
        "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/events", "/v1/usage", "/healthz", "/readyz", "/openai/health",
    }  # fmt: skip


# Things that are away: last, because they take the application apart and put it together again


def ready(service: Service) -> httpx.Response:
    return httpx.get(f"{service.url}/readyz", trust_env=False, timeout=30)


def requests_of_two(account: Account) -> list[Callable[[], httpx.Response]]:
    """Of every kind that a replica of base model `two` must answer; `mine` is a copy of it."""
    openai = {"model": "mine", "messages": HELLO}
    return [
        lambda: account.generate(model="two"),
        lambda: account.generate(model="mine", stream=True),
        lambda: account.http.post("/openai/v1/chat/completions", json=openai),
        lambda: account.http.post("/openai/v1/chat/completions", json={**openai, "stream": True}),
        lambda: account.http.post("/openai/v1/completions", json={"model": "two", "prompt": "Hello"}),
        lambda: account.train("mine"),
    ]


def assert_away_at_once(requests: list[Callable[[], httpx.Response]]) -> None:
    for ask in requests:
        start = time.monotonic()
        assert_error(ask(), 503, "unavailable")
        assert time.monotonic() - start < AT_ONCE_S


def test_base_model_that_does_not_answer_is_unavailable_at_once(service: Service, alice: Account) -> None:
    """First its replica says so, then Serve has ended it, and the next one is long in coming."""
    alice.create("Mine", parent="two")
    requests = requests_of_two(alice)
    down = service.signals / "down two"
    down.touch()
    try:
        wait_until(lambda: ready(service).status_code == 503, READY_S)
        assert_away_at_once(requests)
        response = ready(service)
        assert_error(response, 503, "unavailable")
        assert "two" in response.json()["error"]["message"]
        assert "one" not in response.json()["error"]["message"]
        assert httpx.get(f"{service.url}/healthz", trust_env=False).status_code == 200
        wait_until(lambda: num_running("two") == 0, 60)
        assert_away_at_once(requests)
        assert alice.generate(model="one").status_code == 200
    finally:
        down.unlink()
    wait_until(lambda: ready(service).status_code == 200, 60)
    assert [ask().status_code for ask in requests[:-1]] == [200] * 5


def test_stream_whose_replica_dies_ends_with_an_error(service: Service, alice: Account) -> None:
    body = {"messages": [{"role": "user", "content": "endless"}], "stream": True}
    with alice.http.stream("POST", "/v1/generate_response", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        kill_replica(model_server_name("one"))
        last = json.loads(list(lines)[-1])
    assert (last["type"], last["error"]["code"]) == ("error", "unavailable")
    wait_until(lambda: alice.generate().status_code == 200, 60)


def num_running(base_model: str) -> int:
    status = serve.status().applications[APPLICATION].deployments[model_server_name(base_model)]
    return status.replica_states.get("RUNNING", 0)


def kill_replica(deployment: str) -> None:
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    replica = next(name for name in names if f"{APPLICATION}#{deployment}#" in name)
    ray.kill(ray.get_actor(replica, namespace="serve"))


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
