"""Every request is counted by the template of its route, however it ends."""

import asyncio

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.http_metrics import CountedRequests


class Noted:
    """An HttpMetrics that keeps the requests that it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self.seconds: list[float] = []

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.append((method, route, status))
        self.seconds.append(seconds)


class Clock:
    """A clock that goes on by one second at every look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


class Refusing:
    """A middleware that refuses requests before they reach a route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] == b"refused":
            await PlainTextResponse("no", 401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def api(noted: Noted) -> FastAPI:
    router = APIRouter(prefix="/v1")

    @router.get("/models/{model_id}")
    async def model(model_id: str) -> str:
        if model_id == "broken":
            raise ValueError("broken")
        return model_id

    api = FastAPI()
    api.include_router(router)
    api.add_middleware(Refusing)
    api.add_middleware(CountedRequests, noted, api.routes, Clock())
    return api


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/models/mine", ("GET", "/v1/models/{model_id}", 200)),
        ("GET", "/v1/models/broken", ("GET", "/v1/models/{model_id}", 500)),
        ("GET", "/v1/models/mine?refused", ("GET", "/v1/models/{model_id}", 401)),
        ("DELETE", "/v1/models/mine", ("DELETE", "/v1/models/{model_id}", 405)),
        ("GET", "/secret/path", ("GET", "unknown", 404)),
        ("GET", "/secret/path?refused", ("GET", "unknown", 401)),
        ("GET", "/openapi.json", ("GET", "/openapi.json", 200)),
        ("BREW", "/v1/models/mine", ("other", "/v1/models/{model_id}", 405)),
    ],
)
async def test_request_is_counted_by_its_route(
    api: FastAPI, noted: Noted, method: str, path: str, expected: tuple[str, str, int]
) -> None:
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        await http.request(method, path)
    assert (noted.requests, noted.seconds) == ([expected], [1.0])


async def test_client_that_goes_away_before_the_answer_is_counted_as_499(noted: Noted) -> None:
    is_waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_waiting.set()
        await asyncio.Event().wait()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent")

    counted = CountedRequests(app, noted, [])
    scope = {"type": "http", "method": "GET", "path": "/x"}
    request = asyncio.create_task(counted(scope, receive, send))
    await is_waiting.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert noted.requests == [("GET", "unknown", 499)]
