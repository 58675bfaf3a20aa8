"""The limits and the usage of a user, over real HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.keys import ApiKeys
from registry.meter import utc_today
from registry.usage import Usage, UsageParts
from serve_app.budget_settings import TokenBudget
from serve_app.instance.seaweedfs import stop
from serve_app.settings import LimitSettings
from tests.support.account import HELLO, Account, assert_error, chunks_of
from tests.support.service import Service, train_once
from tests.support.waiting import wait_until

ENDLESS = [{"role": "user", "content": "endless"}]
HEADERS = {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"}
REQUESTS_PER_MINUTE = 300
POOR = "poor"
TOKENS_PER_DAY = 20
LIMITS = LimitSettings(
    max_requests_per_minute_per_user=REQUESTS_PER_MINUTE,
    max_concurrent_generations_per_user=2,
    token_budgets_by_user={POOR: TokenBudget(max_tokens_per_day=TOKENS_PER_DAY)},
)


@contextmanager
def endless_stream(account: Account, seed: int = 0) -> Iterator[None]:
    body = {"messages": ENDLESS, "stream": True, "seed": seed}
    with account.http.stream("POST", "/v1/generate_response", json=body) as response:
        assert response.status_code == 200
        lines = response.iter_lines()  # the response is closed with its iterator
        next(lines)
        yield


def usage(account: Account, **query: Any) -> dict[str, Any]:
    response = account.http.get("/v1/usage", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def counted(account: Account, num_requests: int) -> dict[str, Any]:
    """The usage report, when it has at least this number of requests."""
    wait_until(lambda: usage(account)["total"]["requests"] >= num_requests, 20)
    return usage(account)


# Limits


def test_generations_over_the_limit_are_refused_and_say_when_to_come_back(
    alice: Account, bob: Account
) -> None:
    with endless_stream(alice), endless_stream(alice):
        for stream in (False, True):
            refused = alice.generate(stream=stream)
            assert_error(refused, 429, "rate_limited")
            assert int(refused.headers["retry-after"]) >= 1
        assert bob.generate().status_code == 200
    wait_until(lambda: alice.generate().status_code == 200, 20)


def test_request_with_more_samples_than_the_limit_is_let_in_alone(alice: Account) -> None:
    assert alice.generate(n=5).status_code == 200
    with endless_stream(alice):
        assert_error(alice.generate(n=5), 429, "rate_limited")


def test_every_authenticated_answer_says_how_one_stands(alice: Account) -> None:
    answers = [
        alice.http.get("/v1/models"),
        alice.generate(stream=True),
        alice.generate(messages="nothing"),
        alice.http.get("/v1/models/unknown"),
        alice.http.post("/v1/generate_response", json={"messages": [{"role": "user", "content": "break"}]}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422, 404, 500]
    for answer in answers:
        assert set(answer.headers) >= HEADERS
        assert all(len(answer.headers.get_list(name, split_commas=True)) == 1 for name in HEADERS)
        assert answer.headers["x-ratelimit-limit-requests"] == str(REQUESTS_PER_MINUTE)
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    remaining = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
    assert REQUESTS_PER_MINUTE > remaining[0] > remaining[-1]


def test_answer_to_nobody_says_nothing(service: Service) -> None:
    for path in ("/healthz", "/v1/models"):
        assert not set(httpx.get(service.url + path, trust_env=False).headers) & HEADERS


def test_requests_over_the_limit_are_refused(alice: Account, bob: Account) -> None:
    for _ in range(2 * REQUESTS_PER_MINUTE):
        answer = alice.http.get("/v1/models")
        if answer.status_code != 200:
            break
    assert_error(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert bob.http.get("/v1/models").status_code == 200


# Token budgets


@pytest.fixture
def poor(service: Service) -> Iterator[Account]:
    """A user with a small budget."""
    account = service.account(POOR, ApiKeys(service.store).create(POOR, "test"))
    with account.http:
        yield account


def test_user_over_their_budget_is_refused_beside_one_who_is_not(
    service: Service, poor: Account, alice: Account
) -> None:
    poor.create("Mine")
    chat: dict[str, Any] = {"messages": HELLO}
    bodies = {"chat/completions": chat, "completions": {"prompt": "Hi"}, "responses": {"input": "Hi"}}
    assert poor.http.post("/openai/v1/chat/completions", json={"model": "one", **chat}).status_code == 200
    with endless_stream(poor, seed=8):
        wait_until(lambda: poor.generate().status_code == 429, 20)
        for refused in (poor.generate(), poor.generate(stream=True), poor.train("mine")):
            assert_error(refused, 429, "quota_exceeded")
            assert 1 <= int(refused.headers["retry-after"]) <= 24 * 3600
        for route, body in bodies.items():
            refused = poor.http.post(f"/openai/v1/{route}", json={"model": "one", **body})
            assert_error(refused, 429, "insufficient_quota")
        assert not (service.signals / "ended 8").exists(), "a stream that has begun goes on"
    assert poor.http.get("/v1/models").status_code == 200
    assert alice.generate().status_code == 200
    (budget,) = usage(poor)["budgets"]
    tomorrow = utc_today() + timedelta(days=1)
    assert (budget["period"], budget["max_tokens"]) == ("day", TOKENS_PER_DAY)
    assert budget["used_tokens"] >= TOKENS_PER_DAY
    assert budget["resets_at"] == f"{tomorrow}T00:00:00.000Z"
    assert usage(alice)["budgets"] == []


# Usage


def test_usage_is_that_of_ones_own_generations(alice: Account, bob: Account) -> None:
    alice.create("Mine")
    for model in ("mine", "mine", "one"):
        assert alice.generate(model=model).status_code == 200
    assert chunks_of(alice.generate(model="mine", stream=True))[-1]["usage"]["output_tokens"] == 1
    today = utc_today().isoformat()
    report = counted(alice, 4)
    tokens = {"requests": 4, "input_tokens": 12, "output_tokens": 13, "trained_tokens": 0}
    assert report["by"] == "day"
    assert [row["day"] for row in report["data"]] == [today]
    assert report["data"][0].items() >= tokens.items() and report["total"].items() >= tokens.items()
    assert set(report["total"]) == {*tokens, "generation_seconds", "training_seconds"}
    assert (report["from"], report["to"]) == ((date.fromisoformat(today) - timedelta(29)).isoformat(), today)
    by_model = usage(alice, by="model")["data"]
    assert [(row["model"], row["requests"], row["output_tokens"]) for row in by_model] == [
        ("mine", 3, 9),
        ("one", 1, 4),
    ]
    assert usage(bob) == {**report, "data": [], "total": dict.fromkeys(report["total"], 0)}


def test_client_that_vanishes_pays_what_it_was_sent(service: Service, alice: Account) -> None:
    with endless_stream(alice, seed=7):
        pass
    wait_until((service.signals / "ended 7").exists, 30)
    total = counted(alice, 1)["total"]
    assert total["input_tokens"] == 3 and total["output_tokens"] >= 1


def test_training_is_accounted_for(service: Service, alice: Account, bob: Account, tmp_path: Path) -> None:
    alice.create("Mine")
    train_once(service, alice, tmp_path)
    wait_until(lambda: usage(alice)["total"]["trained_tokens"] > 0, 20)
    (row,) = usage(alice, by="model")["data"]
    assert (row["model"], row["trained_tokens"], row["training_seconds"]) == ("mine", 40, 1.5)
    assert usage(bob)["data"] == []


def test_days_asked_for_are_those_of_the_report(service: Service, alice: Account) -> None:
    parts = UsageParts(service.store)
    for day in (1, 2, 3):
        parts.save(alice.user, date(2024, 2, day), "part", {"one": Usage(requests=day)})
    report = usage(alice, **{"from": "2024-02-02", "to": "2024-02-03"})
    assert [(row["day"], row["requests"]) for row in report["data"]] == [("2024-02-02", 2), ("2024-02-03", 3)]
    assert report["total"]["requests"] == 5
    assert usage(alice, to="2024-02-01")["from"] == "2024-01-03"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "1700000000"}, "from"),
        ({"to": "2024-02-30"}, "to"),
        ({"to": "2024-02-01T00:00:00"}, "to"),
        ({"from": "2024-02-02", "to": "2024-02-01"}, "from"),
        ({"from": "2023-01-01", "to": "2024-01-02"}, "from"),
        ({"by": "user"}, "by"),
    ],
)
def test_wrong_question_is_told_so(alice: Account, query: dict[str, str], param: str) -> None:
    assert_error(alice.http.get("/v1/usage", params=query), 422, "invalid_request", param)


def test_earliest_days_and_a_whole_leap_year_can_be_asked_for(alice: Account) -> None:
    assert usage(alice, to="0001-01-02")["from"] == "0001-01-01"
    assert usage(alice, **{"from": "2024-01-01", "to": "2024-12-31"})["data"] == []


# Last, because storage goes away


def test_what_is_used_while_storage_is_away_is_counted_later(service: Service, alice: Account) -> None:
    assert alice.generate().status_code == 200
    counted(alice, 1)
    stop(service.object_process.pid)
    service.object_process.wait()
    try:
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: alice.generate().status_code, range(4)))
        assert answers == [200] * 4
        assert_error(alice.http.get("/v1/usage"), 503, "unavailable")
    finally:
        service.object_process = service.object_server.start()
    assert counted(alice, 5)["total"]["output_tokens"] == 20
