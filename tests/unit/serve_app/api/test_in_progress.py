"""A request ends exactly once: by itself, from outside, or because a part of it was cancelled."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from registry.errors import Unavailable
from serve_app.api import in_progress
from serve_app.api.errors import install_error_handlers
from serve_app.api.in_progress import Endings, InProgress
from serve_app.api.streams import stream_ndjson

ERROR = Unavailable("the base model is gone")
Get = Callable[[str], Awaitable[httpx.Response]]


class Events:
    """Events for which the routes wait, and the request that waits."""

    def __init__(self) -> None:
        self.is_waiting = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.request: InProgress | None = None

    async def wait(self) -> None:
        self.request = in_progress.current.get()
        self.is_waiting.set()
        await self.may_go_on.wait()


@pytest.fixture
async def events() -> Events:
    return Events()


@pytest.fixture
async def http(events: Events) -> AsyncIterator[httpx.AsyncClient]:
    api = FastAPI()

    @api.get("/answer")
    async def answer() -> str:
        await events.wait()
        return "done"

    @api.get("/lines")
    async def lines() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield '{"type":"delta"}\n'
            await events.wait()
            yield '{"type":"stop"}\n'

        return await stream_ndjson(pieces())  # type: ignore[arg-type]

    @api.get("/cancelled")
    async def cancelled() -> str:
        raise asyncio.CancelledError  # as a call does that was cancelled from elsewhere

    @api.get("/cancelled_lines")
    async def cancelled_lines() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield '{"type":"delta"}\n'
            raise asyncio.CancelledError

        return await stream_ndjson(pieces())  # type: ignore[arg-type]

    api.add_middleware(Endings)
    install_error_handlers(api)
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def last_of(answer: httpx.Response) -> tuple[str, str | None]:
    """The type and the code of the one chunk that ends a stream."""
    chunks = [json.loads(line) for line in answer.text.splitlines()]
    assert [chunk["type"] in ("stop", "error") for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return chunks[-1]["type"], chunks[-1].get("error", {}).get("code")


async def test_a_request_that_is_ended_is_answered_with_the_error(
    http: httpx.AsyncClient, events: Events
) -> None:
    asking = asyncio.create_task(http.get("/answer"))
    await events.is_waiting.wait()
    assert events.request is not None and not events.request.is_answered
    events.request.end(ERROR)
    answer = await asyncio.wait_for(asking, 5)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]


async def test_a_stream_that_is_ended_has_the_error_as_its_last_piece(
    http: httpx.AsyncClient, events: Events
) -> None:
    asking = asyncio.create_task(http.get("/lines"))
    await events.is_waiting.wait()
    assert events.request is not None and events.request.is_answered
    events.request.end(ERROR)
    assert last_of(await asyncio.wait_for(asking, 5)) == ("error", "unavailable")


@pytest.mark.parametrize("path", ["/answer", "/lines"])
async def test_an_end_that_comes_late_changes_nothing(
    http: httpx.AsyncClient, events: Events, path: str
) -> None:
    asking = asyncio.create_task(http.get(path))
    await events.is_waiting.wait()
    events.may_go_on.set()
    answer = await asking
    assert events.request is not None
    events.request.end(ERROR)
    assert answer.status_code == 200
    assert path == "/answer" or last_of(answer) == ("stop", None)


async def test_an_answer_never_has_two_ends(http: httpx.AsyncClient, events: Events) -> None:
    """The last chunk and the end from outside come at the same moment."""
    asking = asyncio.create_task(http.get("/lines"))
    await events.is_waiting.wait()
    assert events.request is not None
    events.may_go_on.set()
    asyncio.get_running_loop().call_soon(events.request.end, ERROR)
    last_of(await asyncio.wait_for(asking, 5))


async def test_a_part_that_was_cancelled_is_an_answer_in_form(http: httpx.AsyncClient) -> None:
    answer = await http.get("/cancelled")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert last_of(await http.get("/cancelled_lines")) == ("error", "unavailable")


async def test_who_is_cancelled_answers_nothing(http: httpx.AsyncClient, events: Events) -> None:
    asking = asyncio.create_task(http.get("/answer"))
    await events.is_waiting.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
