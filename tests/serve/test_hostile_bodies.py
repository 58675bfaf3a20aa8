"""Bodies that take much work to parse, to check or to refuse do not slow the requests of others."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.serve.conftest import WIDE_LIMITS
from tests.support.account import HELLO, Account
from tests.support.service import MAX_REQUEST_BYTES, Service

PATIENCE_S = 5.0
ROUTES = (
    "/v1/generate_response",
    "/v1/train",
    "/v1/models",
    "/openai/v1/chat/completions",
    "/openai/v1/responses",
    "/openai/v1/completions",
)
LIMITS = WIDE_LIMITS


def filled(start: bytes, piece: bytes, end: bytes, size: int) -> bytes:
    """JSON with about this number of bytes."""
    return start + piece * ((size - len(start) - len(end)) // len(piece)) + end


def shapes(size: int) -> dict[str, bytes]:
    message = b'{"role":"user","content":"a"},'
    return {
        "numbers for messages": filled(b'{"messages":[', b"0,", b"0]}", size),
        "lists for messages": filled(b'{"messages":[', b"[],", b"0]}", size),
        "objects for messages": filled(b'{"messages":[', b'{"":{}},', b"0]}", size),
        "messages": filled(b'{"messages":[', message, message[:-1] + b"]}", size),
        "kings": filled(b'{"messages":[', b'{"role":"king"},', b"0]}", size),
        "items": filled(b'{"input":[', message, message[:-1] + b"]}", size),
        "kings of items": filled(b'{"input":[', b'{"role":"king"},', b"0]}", size),
        "numbers for prompts": filled(b'{"prompt":[', b"1.5,", b"0]}", size),
        "tokens": filled(b'{"prompt":[', b"1,", b"0]}", size),
        "responses": filled(b'{"model":"m","messages":0,"responses":[', b'{"content":1},', b"0]}", size),
        "groups": filled(b'{"model":"m","groups":[', b"0,", b"0]}", size),
        "unknown fields": b"{" + b",".join(b'"f%d":0' % n for n in range(size // 12)) + b"}",
        "biases": b'{"prompt":"a","logit_bias":{'
        + b",".join(b'"%d":"x"' % n for n in range(size // 14))
        + b"}}",
        "deep": b"[" * size,
        "deep and closed": b"[" * (size // 2) + b"]" * (size // 2),
        "deep objects": filled(b"", b'{"a":', b"", size),
        "ignored": filled(b'{"prompt":"a","user":[', b"[],", b"0]}", size),
        "quotes": filled(b'{"prompt":["a"', b',"a"', b"]}", size),
        "escapes": filled(b'{"prompt":"', b"\\\\", b'"}', size),
        "digits": filled(b'{"prompt":"a","seed":', b"1", b"}", size),
        "text": filled(b'{"messages":[{"role":"user","content":"', b"a, ", b'"}]}', size),
        "UTF-16": filled(b'{"prompt":[', b"{},", b"0]}", size // 2 - 16).decode().encode("utf-16"),
        "name of a field": filled(b'{"', b"a", b'":1}', size),
        "role": filled(b'{"messages":[{"role":"', b"a", b'"}]}', size),
        "nothing": b" " * size,
    }


@contextmanager
def watched(ask: Callable[[], httpx.Response]) -> Iterator[list[float]]:
    """Ask one request after another during the block; gives the seconds that each answer took."""
    times: list[float] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            start = time.monotonic()
            assert ask().status_code == 200
            times.append(time.monotonic() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield times
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("size", [200 * 2**10, 2**20, MAX_REQUEST_BYTES])
def test_hostile_bodies_hold_nobody_up(service: Service, alice: Account, bob: Account, size: int) -> None:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as anybody:
        alive = watched(lambda: anybody.get("/healthz"))
        listing = watched(lambda: bob.http.get("/v1/models"))
        with alive as alive_s, listing as listing_s:
            for number, (name, body) in enumerate(shapes(size).items()):
                route = ROUTES[number % len(ROUTES)]
                for path in {route, ROUTES[0 if b"messages" in body else -1]}:
                    refused = alice.http.post(
                        path, content=body, headers={"Content-Type": "application/json"}
                    )
                    assert_refused(refused, name)
    assert max(alive_s) < PATIENCE_S and max(listing_s) < PATIENCE_S, (max(alive_s), max(listing_s))


def assert_refused(answer: httpx.Response, name: str) -> None:
    """Assert that the answer is an error of the service that does not repeat the request."""
    assert answer.status_code in (400, 422), (name, answer.status_code, answer.text[:200])
    assert set(answer.json()["error"]) == {"type", "code", "message", "param"}, name
    assert len(answer.content) < 10_000, name


def test_many_large_bodies_at_once_hold_nobody_up(alice: Account, bob: Account) -> None:
    """The bodies have as many bytes and values as a body may have."""
    text = json.dumps({"messages": [{"role": "user", "content": "a" * (MAX_REQUEST_BYTES - 100)}]}).encode()
    values = json.dumps({"messages": HELLO, "user": [0] * 60_000}).encode()

    def send(body: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        return alice.http.post("/openai/v1/chat/completions", content=body, headers=headers).status_code

    with watched(lambda: bob.http.get("/v1/models")) as listing_s, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, (text, values) * 6)) == {400, 200}
    assert max(listing_s) < PATIENCE_S
