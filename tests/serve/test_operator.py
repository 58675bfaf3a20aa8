"""The user of a key, and the routes that only operators have, over real HTTP."""

from collections.abc import Iterator

import httpx
import pytest

from registry.meter import utc_today
from registry.usage import Usage, UsageParts
from tests.support.account import Account, assert_error
from tests.support.service import Service

DASHBOARD = "https://dashboard.example.com/"
ROUTES = ("/v1/operator/base_models", "/v1/operator/users")


@pytest.fixture
def operator(service: Service) -> Iterator[Account]:
    """A user whom the settings name as an operator. The settings change while the service runs."""
    account, before = service.user(), service.settings
    named = {"operators": (account.user,), "dashboard_url": DASHBOARD}
    service.deploy(before.model_copy(update=named))
    with account.http:
        yield account
    service.deploy(before)


def users_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row["user"] for row in answer.json()["data"]]


def test_a_user_learns_who_they_are(alice: Account) -> None:
    me = alice.http.get("/v1/me").json()
    assert (me["user"], me["is_operator"], me["dashboard_url"]) == (alice.user, False, None)
    (key,) = alice.http.get("/v1/keys").json()
    assert me["current_key"] == {name: value for name, value in key.items() if name != "current"} | {
        "last_used": None
    }
    assert alice.key not in alice.http.get("/v1/me").text


@pytest.mark.parametrize("route", ROUTES)
def test_for_other_users_the_routes_do_not_exist(alice: Account, route: str) -> None:
    found, unknown = alice.http.get(route), alice.http.get("/v1/operator/nothing")
    assert_error(found, 404, "route_not_found")
    assert (found.status_code, found.json()) == (unknown.status_code, unknown.json())


def test_an_operator_sees_base_models_and_users(service: Service, operator: Account, alice: Account) -> None:
    me = operator.http.get("/v1/me").json()
    assert (me["is_operator"], me["dashboard_url"]) == (True, DASHBOARD)
    models = operator.http.get("/v1/operator/base_models").json()
    assert [(model["id"], model["status"]) for model in models] == [("one", "ready"), ("two", "ready")]
    assert all(model["replicas"] == [{"generations": 0}] for model in models)
    alice.create("Secret plans")
    UsageParts(service.store).save(alice.user, utc_today(), "part", {"secret-plans": Usage(input_tokens=7)})
    assert alice.train("secret-plans", background=True).status_code == 202
    page = operator.http.get("/v1/operator/users", params={"after": alice.user[:-1], "limit": 100})
    (row,) = (row for row in page.json()["data"] if row["user"] == alice.user)
    assert (row["input_tokens"], row["unfinished_trainings"]) == (7, 1)
    assert "secret" not in page.text
    assert_error(alice.http.get(ROUTES[1]), 404, "route_not_found")
    (job,) = alice.http.get("/v1/jobs").json()
    alice.http.post(f"/v1/jobs/{job['id']}/cancel")


def test_users_come_in_pages(operator: Account, alice: Account, bob: Account) -> None:
    first, second = sorted([alice.user, bob.user])
    page = operator.http.get("/v1/operator/users", params={"after": first[:-1], "limit": 1})
    assert len(users_of(page)) == 1 and page.json()["has_more"]
    assert second in users_of(operator.http.get("/v1/operator/users", params={"after": first, "limit": 100}))
    assert first not in users_of(operator.http.get("/v1/operator/users", params={"after": first}))
    wrong = operator.http.get("/v1/operator/users", params={"from": "2026-02-02", "to": "2026-02-01"})
    assert_error(wrong, 422, "invalid_request", "from")
