"""A request that is refused, fails or is left by its client leaves nothing in the replica."""

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.system import Client, Counts, System

STORY = [{"role": "user", "content": "Tell me a long story."}]
LONG = {"max_tokens": 800, "temperature": 1}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "generate": ("/v1/generate_response", {"messages": STORY, "n": 2, **LONG}),
    "generate-stream": ("/v1/generate_response", {"messages": STORY, "stream": True, **LONG}),
    "chat": ("/openai/v1/chat/completions", {"messages": STORY, "n": 2, **LONG}),
    "chat-stream": ("/openai/v1/chat/completions", {"messages": STORY, "n": 2, "stream": True, **LONG}),
    "response-stream": (
        "/openai/v1/responses",
        {"input": STORY, "stream": True, "max_output_tokens": 800, "temperature": 1},
    ),
    "text": ("/openai/v1/completions", {"prompt": ["Once", "Upon", "A"], "n": 2, **LONG}),
    "text-stream": ("/openai/v1/completions", {"prompt": ["Once", "Upon"], "n": 2, "stream": True, **LONG}),
}
# A second, and what a machine shared with others may need to notice.
GONE_AFTER_S = 3.0


@pytest.fixture(scope="module")
def learned(system: System) -> Client:
    """A client with a private model that was trained."""
    client = system.client(f"learned-{secrets.token_hex(4)}")
    client.create("Mine")
    client.train("mine", "Hello", {"Good day.": 1.0, "No.": 0.0}, learning_steps=1)
    return client


@pytest.fixture(scope="module")
def counts(system: System) -> Iterator[Counts]:
    """The generations of the base model in progress, of private models too."""
    with system.counted() as found:
        yield found


def ask(client: Client, body: dict[str, Any]) -> httpx.Response:
    return client.http.post("/v1/generate_response", json=body)


def is_zero(count: int) -> bool:
    return count == 0


async def begin(client: Client, path: str, body: dict[str, Any]) -> asyncio.StreamWriter:
    """Send a request in two packets, as most clients do."""
    url = client.http.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {client.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode())
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.write(content)
    await writer.drain()
    return writer


@pytest.mark.parametrize("model", ["smollm2-135m", "mine"])
@pytest.mark.parametrize("form", FORMS)
def test_client_that_goes_away_stops_its_generation(
    learned: Client, counts: Counts, form: str, model: str
) -> None:
    """Another request with the same key waits for its whole answer meanwhile, and gets it."""
    path, body = FORMS[form]
    sibling = {"model": model, "messages": STORY, "max_tokens": 40, "temperature": 0}

    async def leave() -> tuple[httpx.Response, float]:
        begun_at = time.time()
        stays = asyncio.create_task(asyncio.to_thread(ask, learned, sibling))
        goes = [await begin(learned, path, {"model": model, **body}) for _ in range(2)]
        await asyncio.to_thread(counts.wait_for, lambda count: count > 2, begun_at)
        for writer in goes:
            writer.transport.abort()
        left_at = time.time()
        alone_at = await asyncio.to_thread(counts.wait_for, lambda count: count <= 1, left_at)
        return await stays, alone_at - left_at

    counts.wait_for(is_zero, time.time())
    ask(learned, sibling)
    answer, seconds = asyncio.run(leave())
    counts.wait_for(is_zero, time.time())
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["output_tokens"] == 40
    assert seconds < GONE_AFTER_S


def test_request_for_too_much_is_refused_each_time_and_leaves_nothing(counts: Counts, alice: Client) -> None:
    body = {"model": "smollm2-135m", "prompt": ["a"] * 64, "n": 64, "max_tokens": 1}
    for more in ({}, {"stream": True}, {}):
        answer = alice.http.post("/openai/v1/completions", json={**body, **more})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "n"
        counts.wait_for(is_zero, time.time())
    assert alice.greedy("smollm2-135m", "Hello", 2)["usage"]["output_tokens"] == 2


def test_user_who_has_all_that_one_may_have_and_leaves_can_start_again(counts: Counts, alice: Client) -> None:
    path = "/openai/v1/chat/completions"
    body = {"model": "smollm2-135m", "messages": STORY, "n": 64, "stream": True, **LONG}

    async def fill_and_leave() -> httpx.Response:
        begun_at = time.time()
        streams = [await begin(alice, path, body) for _ in range(8)]
        await asyncio.to_thread(counts.wait_for, lambda count: count == 512, begun_at)
        refused = await asyncio.to_thread(alice.http.post, path, json=body)
        for stream in streams:
            stream.transport.abort()
        return refused

    counts.wait_for(is_zero, time.time())
    refused = asyncio.run(fill_and_leave())
    left_at = time.time()
    assert counts.wait_for(is_zero, left_at) - left_at < GONE_AFTER_S
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 1
    assert alice.greedy("smollm2-135m", "Hello", 2)["usage"]["output_tokens"] == 2
