"""Clients that send half of a request, or nothing, and stay connected do not disturb others.

HAProxy keeps them from the ingress. tests/process/serve_app/instance/test_haproxy.py tests its bounds.
"""

import time
from collections.abc import Callable

import httpx

from tests.support.account import Account
from tests.support.front_door import HALF_SENT, held
from tests.support.service import Service

HELD = 2000
AT_ONCE_S = 10
"""And not the twenty seconds for which the connections are held."""


def assert_prompt(ask: Callable[[], httpx.Response]) -> None:
    for _ in range(15):
        asked = time.monotonic()
        assert ask().status_code == 200
        assert time.monotonic() - asked < AT_ONCE_S


def test_others_are_answered_beside_two_thousand_of_them(service: Service, alice: Account) -> None:
    alice.http.get("/v1/models")
    with held(service.url, [HALF_SENT[number % len(HALF_SENT)] for number in range(HELD)]):
        assert_prompt(lambda: httpx.get(f"{service.url}/healthz", trust_env=False))
        assert_prompt(lambda: alice.http.get("/v1/models"))


def test_a_client_that_was_half_heard_hears_so_in_our_form(service: Service) -> None:
    with held(service.url, [HALF_SENT[2]]) as (connection,):
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
