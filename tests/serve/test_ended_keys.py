"""A key that is revoked or expires ends what was begun with it, except trainings."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from registry.keys import ApiKeys, hash_key
from registry.records import utc_now
from serve_app.deployment_options import INGRESS
from tests.serve.conftest import WIDE_LIMITS
from tests.support.account import ENDLESS, Account, assert_error, chunks_of
from tests.support.replicas import num_ongoing
from tests.support.service import Service
from tests.support.waiting import wait_until

REVOCATION_S = 5.0
READING_S = 10
"""For what it takes to read the rest of a stream on a busy machine; without an end it would last for ever."""
STREAMS = [
    ("/v1/generate_response", {"messages": ENDLESS, "stream": True}),
    ("/openai/v1/chat/completions", {"model": "one", "messages": ENDLESS, "stream": True}),
    ("/openai/v1/responses", {"model": "one", "input": ENDLESS, "stream": True}),
]
LIMITS = WIDE_LIMITS


def test_revoked_key_changes_no_keys_though_it_was_good_a_moment_ago(
    service: Service, alice: Account
) -> None:
    own, other = alice.http.post("/v1/keys", json={"name": "other"}), alice.http.get("/v1/keys")
    assert (own.status_code, other.status_code) == (201, 200)
    ApiKeys(service.store).revoke(hash_key(alice.key))
    assert_error(alice.http.post("/v1/keys", json={"name": "late"}), 401, "invalid_api_key")
    assert_error(alice.http.delete(f"/v1/keys/{own.json()['id']}"), 401, "invalid_api_key")
    assert [key.record.name for key in ApiKeys(service.store).list_of(alice.user)] == ["other"]


def test_keys_made_while_their_maker_is_revoked_are_those_that_were_shown(
    service: Service, accounts: list[Account]
) -> None:
    def make(account: Account) -> set[str]:
        shown = set()
        while (response := account.http.post("/v1/keys", json={"name": "more"})).status_code != 401:
            assert response.status_code == 201, response.text
            shown.add(response.json()["id"])
        return shown

    for account in accounts:
        with ThreadPoolExecutor(4) as pool:
            makers = [pool.submit(make, account) for _ in range(4)]
            wait_until(lambda account=account: len(ApiKeys(service.store).list_of(account.user)) > 3, 30)
            ApiKeys(service.store).revoke(hash_key(account.key))
            shown = set[str]().union(*(maker.result(timeout=60) for maker in makers))
        assert {key.record.id for key in ApiKeys(service.store).list_of(account.user)} == shown


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_stream_ends_when_its_key_is_revoked(
    service: Service, alice: Account, path: str, body: dict[str, Any]
) -> None:
    with alice.http.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        ApiKeys(service.store).revoke(hash_key(alice.key))
        revoked = time.monotonic()
        rest = [line for line in lines if line]
    assert time.monotonic() - revoked < REVOCATION_S + READING_S
    if path.startswith("/openai"):
        assert rest[-1] == "data: [DONE]"
        last = json.loads(rest[-2].removeprefix("data: "))
    else:
        last = json.loads(rest[-1])
        assert last["type"] == "error"
    assert last["error"]["code"] == "invalid_api_key"
    wait_until(lambda: num_ongoing(INGRESS) == 0, 30)


def test_stream_ends_when_its_key_expires(service: Service, alice: Account) -> None:
    expires = utc_now() + timedelta(seconds=6)
    made = alice.http.post("/v1/keys", json={"name": "short", "expires": expires.isoformat()})
    short = service.account(alice.user, made.json()["key"])
    with short.http:
        last = chunks_of(short.generate(messages=ENDLESS, stream=True))[-1]
    assert (last["type"], last["error"]["code"]) == ("error", "invalid_api_key")
    assert timedelta(0) <= utc_now() - expires < timedelta(seconds=REVOCATION_S)


@pytest.mark.parametrize("is_training", [True, False])
def test_training_goes_on_without_those_who_watch_it(
    service: Service, alice: Account, is_training: bool
) -> None:
    """A stream of events ends too if nothing happens in its job."""
    alice.create("Mine")
    key = alice.http.post("/v1/keys", json={"name": "watcher"}).json()
    watcher = service.account(alice.user, key["key"])
    job = "" if is_training else alice.train(background=True).json()["id"]
    with watcher.http, ThreadPoolExecutor(1) as pool:
        if is_training:
            watching = pool.submit(watcher.train, stream=True)
            wait_until(lambda: bool(alice.http.get("/v1/jobs").json()), 30)
            job = alice.http.get("/v1/jobs").json()[0]["id"]
        else:
            watching = pool.submit(watcher.http.get, f"/v1/jobs/{job}/events?follow=true")
            wait_until(lambda: num_ongoing(INGRESS) == 1, 30)
        assert alice.http.delete(f"/v1/keys/{key['id']}").status_code == 200
        revoked = time.monotonic()
        last = chunks_of(watching.result(timeout=60))[-1]
        assert time.monotonic() - revoked < REVOCATION_S + READING_S
    assert (last["type"], last["error"]["code"]) == ("error", "invalid_api_key")
    assert alice.http.get(f"/v1/jobs/{job}").json()["status"] in ("queued", "running")
    assert alice.http.post(f"/v1/jobs/{job}/cancel").status_code == 200
