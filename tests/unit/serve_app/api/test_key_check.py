"""No answer leaves before the key is known to be valid, and a stream ends when the key is no longer valid."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.errors import InvalidApiKey, TigerError, Unavailable
from registry.records import KeyRecord, utc_now
from serve_app.api.auth import Caller
from serve_app.api.errors import install_error_handlers
from serve_app.api.in_progress import Endings
from serve_app.api.key_check import CALLER, KeyCheck, KeyWatch
from serve_app.api.streams import DONE, cancelled_at_end, stream_events, stream_ndjson

PATHS = ("/answer", "/stream", "/refused", "/broken", "/unknown")
RECORD = KeyRecord(id="key-0", user="alice", name="key", created=utc_now())


class Check:
    """A check of a key. `outcome` is its error when it `is_known`; `later` is the error of a later check."""

    def __init__(self) -> None:
        self.is_known = asyncio.Event()
        self.outcome: TigerError | None = None
        self.later: TigerError | None = None

    async def run(self) -> KeyRecord:
        await self.is_known.wait()
        if self.outcome is not None:
            raise self.outcome
        return RECORD

    async def again(self, key_hash: str) -> KeyRecord:
        if self.later is not None:
            raise self.later
        return RECORD


class Source:
    """A stream like that of a Serve handle. It gives one piece, waits, and knows whether it was cancelled."""

    def __init__(self, piece: str) -> None:
        self._pieces = [piece]
        self.is_cancelled = False
        self.is_waiting = asyncio.Event()

    def __aiter__(self) -> "Source":
        return self

    async def __anext__(self) -> str:
        if not self._pieces:
            self.is_waiting.set()
            await asyncio.Event().wait()
        return self._pieces.pop()

    def cancel(self) -> None:
        self.is_cancelled = True


class Presume:
    """A middleware that presumes the caller to be good, as the door does."""

    def __init__(self, app: ASGIApp, check: Check) -> None:
        self._app = app
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CALLER] = Caller("alice", "hash", self._check.run)
        await self._app(scope, receive, send)


@pytest.fixture
async def check() -> Check:
    return Check()


@pytest.fixture
async def lines() -> Source:
    return Source('{"type":"delta"}\n')


@pytest.fixture
async def events() -> Source:
    return Source('data: {"id":"1"}\n\n')


@pytest.fixture
async def http(check: Check, lines: Source, events: Source) -> AsyncIterator[httpx.AsyncClient]:
    api = FastAPI()

    @api.get("/answer")
    async def answer() -> str:
        return "secret"

    @api.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "secret"

        return StreamingResponse(pieces())

    @api.get("/lines")
    async def stream_of_lines() -> StreamingResponse:
        return await stream_ndjson(cancelled_at_end(lines))

    @api.get("/events")
    async def stream_of_events() -> StreamingResponse:
        return await stream_events(events)

    @api.get("/refused")
    async def refused() -> None:
        raise TigerError("secret")

    @api.get("/broken")
    async def broken() -> None:
        raise ValueError("secret")

    api.add_middleware(Presume, check)
    api.add_middleware(Endings)
    api.add_middleware(KeyCheck, check.again, KeyWatch(check.again, pause_s=0.01))
    install_error_handlers(api)
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("outcome", "status"),
    [(InvalidApiKey("the API key is not valid"), 401), (Unavailable("storage cannot be reached"), 503)],
)
async def test_a_key_that_is_no_good_is_all_that_is_answered(
    http: httpx.AsyncClient, check: Check, path: str, outcome: TigerError, status: int
) -> None:
    check.outcome = outcome
    check.is_known.set()
    answer = await http.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == outcome.message
    assert "secret" not in answer.text


@pytest.mark.parametrize(("path", "status"), list(zip(PATHS, (200, 200, 500, 500, 404), strict=True)))
async def test_an_answer_waits_for_the_key(
    http: httpx.AsyncClient, check: Check, path: str, status: int
) -> None:
    asking = asyncio.create_task(http.get(path))
    done, _ = await asyncio.wait([asking], timeout=0.1)
    assert not done
    check.is_known.set()
    assert (await asking).status_code == status


async def test_a_stream_ends_with_an_error_when_its_key_is_revoked(
    http: httpx.AsyncClient, check: Check, lines: Source
) -> None:
    check.is_known.set()
    reading = asyncio.create_task(http.get("/lines"))
    await lines.is_waiting.wait()
    check.later = InvalidApiKey("the API key is not valid")
    answer = await asyncio.wait_for(reading, 5)
    first, last = map(json.loads, answer.text.splitlines())
    assert (first["type"], last["type"], last["error"]["code"]) == ("delta", "error", "invalid_api_key")
    assert lines.is_cancelled


async def test_server_sent_events_end_as_openai_ends_them(
    http: httpx.AsyncClient, check: Check, events: Source
) -> None:
    check.is_known.set()
    reading = asyncio.create_task(http.get("/events"))
    await events.is_waiting.wait()
    check.later = InvalidApiKey("the API key is not valid")
    answer = await asyncio.wait_for(reading, 5)
    assert answer.text.endswith(
        f'"code":"invalid_api_key","message":"the API key is not valid","param":null}}}}\n\n{DONE}'
    )
    assert events.is_cancelled


async def test_a_stream_goes_on_while_storage_is_away(
    http: httpx.AsyncClient, check: Check, lines: Source
) -> None:
    check.is_known.set()
    check.later = Unavailable("storage cannot be reached")
    reading = asyncio.create_task(http.get("/lines"))
    await lines.is_waiting.wait()
    done, _ = await asyncio.wait([reading], timeout=0.1)
    assert not done
    reading.cancel()
