"""A browser's cross-origin requests, for pages of an allowed origin and of another one."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.api.cross_origin import Entrance, open_to
from serve_app.settings import IngressSettings

PAGE = "https://chat.example.com"
OTHER = "https://evil.example.com"


async def needs_key(request: Request) -> JSONResponse:
    status = 200 if "authorization" in request.headers else 401
    return JSONResponse({}, status, {"X-Request-Id": "1"})


async def fails(request: Request) -> JSONResponse:
    raise RuntimeError


Ask = Callable[..., "httpx.Response"]


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    api = Starlette(routes=[Route("/v1/models", needs_key, methods=["POST"]), Route("/fails", fails)])
    transport = httpx.ASGITransport(open_to((PAGE,), api), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tiger") as client:
        yield client


def asking(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-stainless-lang",
    }


async def test_page_asks_beforehand_without_a_key(browser: httpx.AsyncClient) -> None:
    answer = await browser.options("/v1/models", headers=asking(PAGE))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "x-stainless-lang" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/v1/models", 401), ("GET", "/fails", 500)])
async def test_page_may_read_errors_and_their_headers(
    browser: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await browser.request(method, path, headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
    shown = answer.headers["access-control-expose-headers"]
    assert "X-Request-Id" in shown and "Retry-After" in shown


async def test_page_of_another_origin_may_not(browser: httpx.AsyncClient) -> None:
    assert (await browser.options("/v1/models", headers=asking(OTHER))).status_code == 400
    answer = await browser.post("/v1/models", headers={"Origin": OTHER})
    assert "access-control-allow-origin" not in answer.headers


async def test_without_allowed_origins_there_is_nothing_of_it() -> None:
    api = Starlette()
    assert open_to(IngressSettings().allowed_origins, api) is api


@pytest.mark.parametrize(
    "origin", ["chat.example.com", "https://chat.example.com/", "https://*.example.com", ""]
)
def test_origin_is_one_of_a_browser(origin: str) -> None:
    with pytest.raises(ValidationError):
        IngressSettings(allowed_origins=(origin,))
    assert IngressSettings(allowed_origins=(PAGE, "http://localhost:3000", "*"))


def test_serve_sees_the_routes_of_the_application() -> None:
    """Serve names requests by their routes in its log and its metrics."""
    application = FastAPI()
    assert getattr(open_to(["https://page.example.com"], application), "routes", None) == application.routes


async def test_changed_origins_hold_for_the_next_request() -> None:
    origins: list[str] = []
    entrance = Entrance(FastAPI(), lambda: tuple(origins))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(entrance), base_url="http://tiger") as browser:
        assert (await browser.options("/v1/models", headers=asking(PAGE))).status_code == 404
        origins.append(PAGE)
        assert (await browser.options("/v1/models", headers=asking(PAGE))).status_code == 200
        origins.clear()
        assert (await browser.options("/v1/models", headers=asking(PAGE))).status_code == 404
