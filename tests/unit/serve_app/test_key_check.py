"""Nothing is answered before the key is known to be good: not an answer, an error, or a part of a stream."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from registry.errors import InvalidApiKey, TigerError, Unavailable
from serve_app.errors import KEY_CHECK, install_error_handlers
from serve_app.middleware import KeyCheck

PATHS = ("/answer", "/stream", "/refused", "/broken", "/unknown")


class Check:
    """What the key turns out to be, once `is_known`."""

    def __init__(self) -> None:
        self.is_known = asyncio.Event()
        self.outcome: TigerError | None = None

    async def run(self) -> None:
        await self.is_known.wait()
        if self.outcome is not None:
            raise self.outcome


@pytest.fixture
def check() -> Check:
    return Check()


@pytest.fixture
async def http(check: Check) -> AsyncIterator[httpx.AsyncClient]:
    api = FastAPI()

    @api.middleware("http")
    async def presume(request: Request, call_next):  # type: ignore[no-untyped-def]
        request.scope[KEY_CHECK] = asyncio.create_task(check.run())
        return await call_next(request)

    @api.get("/answer")
    async def answer() -> str:
        return "secret"

    @api.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "secret"

        return StreamingResponse(pieces())

    @api.get("/refused")
    async def refused() -> None:
        raise TigerError("secret")

    @api.get("/broken")
    async def broken() -> None:
        raise ValueError("secret")

    api.add_middleware(KeyCheck)
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
