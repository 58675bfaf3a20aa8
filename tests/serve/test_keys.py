"""`/v1/keys` over real HTTP, with two replicas of the ingress that each remember keys."""

import time
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from registry.keys import hash_key, hour_of
from registry.records import utc_now
from tests.serve.conftest import LIMITS_OF_TWO, MAX_KEYS
from tests.support.account import Account, assert_error
from tests.support.service import Service
from tests.support.waiting import wait_until

REVOCATION_S = 5
FIELDS = {"id", "name", "created", "expires", "last_used"}

LIMITS = LIMITS_OF_TWO
NUM_INGRESSES = 2


def created(account: Account, **body: Any) -> dict[str, Any]:
    response = account.http.post("/v1/keys", json={"name": "another", **body})
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


def statuses(account: Account, number: int = 20) -> set[int]:
    """The statuses of requests over connections of their own. Every replica gets some of them."""
    headers = {"Authorization": f"Bearer {account.key}", "Connection": "close"}
    return {account.http.get("/v1/models", headers=headers).status_code for _ in range(number)}


def test_another_key_is_the_same_user(service: Service, alice: Account) -> None:
    alice.create("Mine")
    answer = created(alice, name="laptop")
    assert set(answer) == FIELDS | {"key"}
    assert (answer["name"], answer["expires"], answer["last_used"]) == ("laptop", None, None)
    other = service.account(alice.user, answer["key"])
    assert other.http.get("/v1/models/mine").status_code == 200


def test_keys_are_listed_oldest_first_and_never_shown(service: Service, alice: Account, bob: Account) -> None:
    answers = [created(alice, name=name) for name in ("b", "a")]
    listing = alice.http.get("/v1/keys")
    assert [key["name"] for key in listing.json()] == ["test", "b", "a"]
    assert [key["current"] for key in listing.json()] == [True, False, False]
    assert all(set(key) == FIELDS | {"current"} for key in listing.json())
    for secret in (alice.key, *(answer["key"] for answer in answers)):
        assert secret not in listing.text and hash_key(secret)[:12] not in listing.text
    other = service.account(alice.user, answers[1]["key"])
    assert [key["current"] for key in other.http.get("/v1/keys").json()] == [False, False, True]
    assert [key["name"] for key in bob.http.get("/v1/keys").json()] == ["test"]


def test_last_use_is_shown_by_the_hour(alice: Account) -> None:
    def last_used() -> str | None:
        return alice.http.get("/v1/keys").json()[0]["last_used"]

    before = hour_of(utc_now())
    wait_until(lambda: last_used() is not None, 20)
    assert datetime.fromisoformat(last_used() or "") in (before, hour_of(utc_now()))


def test_revoked_key_is_refused_by_every_replica_in_time(service: Service, alice: Account) -> None:
    answer = created(alice)
    other = service.account(alice.user, answer["key"])
    assert statuses(other) == {200}
    response = alice.http.delete(f"/v1/keys/{answer['id']}")
    revoked_at = time.monotonic()
    assert (response.status_code, response.json()) == (
        200,
        {"id": answer["id"], "message": "key has been revoked"},
    )
    assert [key["name"] for key in alice.http.get("/v1/keys").json()] == ["test"]
    time.sleep(max(0, REVOCATION_S - (time.monotonic() - revoked_at)))
    assert statuses(other) == {401}
    assert_error(other.http.get("/v1/models"), 401, "invalid_api_key")
    assert_error(alice.http.delete(f"/v1/keys/{answer['id']}"), 404, "key_not_found")


def test_nothing_is_generated_for_a_revoked_key_nor_said_of_its_request(
    service: Service, alice: Account
) -> None:
    """This is the first request with the key after its revocation. The key was good a few seconds before."""
    requests: list[dict[str, Any]] = [
        {"stream": True},
        {"stream": False},
        {"model": "unknown"},
        {"messages": "nothing"},
        {"messages": [{"role": "user", "content": "break"}]},
    ]
    others = []
    for _ in requests:
        answer = created(alice)
        others.append(service.account(alice.user, answer["key"]))
        assert statuses(others[-1]) == {200}
        assert alice.http.delete(f"/v1/keys/{answer['id']}").status_code == 200
    time.sleep(REVOCATION_S)
    for other, request in zip(others, requests, strict=True):
        assert_error(other.generate(**request), 401, "invalid_api_key")


def test_key_in_use_may_be_revoked(alice: Account) -> None:
    (own,) = alice.http.get("/v1/keys").json()
    assert alice.http.delete(f"/v1/keys/{own['id']}").status_code == 200
    wait_until(lambda: alice.http.get("/v1/keys").status_code == 401, REVOCATION_S)


def test_another_users_key_answers_like_one_that_does_not_exist(alice: Account, bob: Account) -> None:
    theirs = created(bob)["id"]

    def answer(key_id: str) -> tuple[bytes, dict[str, str]]:
        response = alice.http.delete(f"/v1/keys/{key_id}")
        assert_error(response, 404, "key_not_found")
        own = ("x-request-id", "date", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
        return response.content, {k: v for k, v in response.headers.items() if k not in own}

    assert answer(theirs) == answer("key-" + "0" * 24) == answer("..%5Cx") == answer(hash_key(bob.key))
    assert len(bob.http.get("/v1/keys").json()) == 2


def test_key_that_expires_makes_none_that_outlives_it(service: Service, alice: Account) -> None:
    expires = utc_now() + timedelta(days=1)
    short = service.account(alice.user, created(alice, expires=expires.isoformat())["key"])
    assert datetime.fromisoformat(created(short)["expires"]) == expires
    later = {"name": "later", "expires": (expires + timedelta(days=1)).isoformat()}
    answer = short.http.post("/v1/keys", json=later)
    assert_error(answer, 422, "invalid_request", "expires")


def test_expired_key_is_refused_from_its_moment_on(service: Service, alice: Account) -> None:
    expires = utc_now() + timedelta(seconds=6)
    answer = created(alice, expires=expires.isoformat())
    assert datetime.fromisoformat(answer["expires"]) == expires
    other = service.account(alice.user, answer["key"])
    while utc_now() < expires:
        answered = other.http.get("/v1/models").status_code
        assert answered == 200 or utc_now() >= expires
    assert statuses(other) == {401}
    response = other.http.get("/v1/models")
    assert_error(response, 401, "invalid_api_key")
    assert "expired" in response.json()["error"]["message"]
    assert answer["id"] in [key["id"] for key in alice.http.get("/v1/keys").json()]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": 1}, "name"),
        ({"name": "x", "colour": "red"}, "colour"),
        ({"name": "x", "user": "bob"}, "user"),
        ({"name": "x", "expires": "soon"}, "expires"),
        ({"name": "x", "expires": "2000-01-31T12:00:00Z"}, "expires"),
        ({"name": "x", "expires": "2100-01-31T12:00:00"}, "expires"),
        ({"name": "x", "expires": 4102444800}, "expires"),
    ],
)
def test_bad_field_is_named(alice: Account, body: Any, param: str) -> None:
    response = alice.http.post("/v1/keys", json=body)
    assert_error(response, 422, "invalid_request", param)
    assert len(alice.http.get("/v1/keys").json()) == 1


def test_too_many_keys_are_a_quota_and_a_revoked_one_makes_room(alice: Account) -> None:
    made = [created(alice) for _ in range(MAX_KEYS - 1)]
    assert_error(alice.http.post("/v1/keys", json={"name": "one more"}), 429, "quota_exceeded")
    assert alice.http.delete(f"/v1/keys/{made[0]['id']}").status_code == 200
    created(alice)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("DELETE", "/key-" + "0" * 24)])
def test_keys_need_a_key(service: Service, method: str, path: str) -> None:
    response = httpx.request(method, f"{service.url}/v1/keys{path}", trust_env=False)
    assert_error(response, 401, "invalid_api_key")


def test_key_is_in_no_object_and_no_log(service: Service, alice: Account) -> None:
    answer = created(alice)
    other = service.account(alice.user, answer["key"])
    assert other.http.get("/v1/keys").status_code == 200
    assert other.http.post("/v1/keys", json={"name": ""}).status_code == 422
    wait_until(lambda: all(key["last_used"] for key in alice.http.get("/v1/keys").json()), 20)
    assert other.http.delete(f"/v1/keys/{answer['id']}").status_code == 200
    wait_until(lambda: other.http.get("/v1/keys").status_code == 401, REVOCATION_S)
    secrets = [alice.key.encode(), answer["key"].encode()]
    for name in service.store.list(""):
        content = name.encode() + service.store.get(name).body
        assert not any(secret in content for secret in secrets), name
    logs = {path: path.read_bytes() for path in service.logs.rglob("*") if path.is_file()}
    ingresses = [path for path, content in logs.items() if "Ingress" in path.name and b"/v1/keys" in content]
    assert len(ingresses) >= 2, "both replicas log what they answer"
    assert any("Catalog" in path.name for path in logs)
    assert [path for path, content in logs.items() if any(secret in content for secret in secrets)] == []


def test_openapi_describes_the_routes_with_an_example(service: Service) -> None:
    document = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    assert set(document["paths"]["/v1/keys"]) == {"get", "post"}
    assert set(document["paths"]["/v1/keys/{key_id}"]) == {"delete"}
    schema = document["components"]["schemas"]["CreateKey"]
    assert schema["properties"]["expires"]["anyOf"][0] == {"type": "string", "format": "date-time"}
    schemas = document["components"]["schemas"].items()
    assert [name for name, schema in schemas if "key" in schema.get("properties", {})] == ["CreatedKey"]
