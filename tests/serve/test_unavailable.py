"""A base model, a replica or the storage is away, and comes back."""

import json
import time
from collections.abc import Callable

import httpx

from serve_app.deployment_options import model_server_name
from serve_app.instance.seaweedfs import stop
from tests.support.account import HELLO, Account, assert_error
from tests.support.replicas import kill_replica, num_running
from tests.support.service import Service
from tests.support.waiting import wait_until

READY_S = 5
AT_ONCE_S = 3  # and not the minute that the next replica takes


def ready(service: Service) -> httpx.Response:
    return httpx.get(f"{service.url}/readyz", trust_env=False, timeout=30)


def requests_of_two(account: Account) -> list[Callable[[], httpx.Response]]:
    """One request of each kind that a replica of base model `two` must answer; `mine` is its copy."""
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
    """First the replica says that it is down.

    Then Serve ends it, and the next replica takes a while to start.
    """
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
