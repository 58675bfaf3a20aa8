"""The routes of the console: headers, caching, compression, methods, and paths that lead nowhere."""

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from serve_app.api.console_files import console_files
from serve_app.api.errors import install_error_handlers
from serve_app.api.routes import console

APP = next(name for name in console_files().files if name.endswith("/app.js"))
DIGEST = APP.partition("/")[0]


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    api = FastAPI(redirect_slashes=False)
    install_error_handlers(api)
    api.include_router(console.router)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api), base_url="http://evil.example"
    ) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/console"])
async def test_root_leads_to_the_console_of_this_host(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == 307
    assert answer.headers["location"] == "/console/"


async def test_index_is_asked_for_again_and_not_sent_twice(browser: httpx.AsyncClient) -> None:
    first = await browser.get("/console/")
    assert first.status_code == 200
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert first.headers["cache-control"] == "no-cache"
    again = await browser.get("/console/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


async def test_files_are_kept_for_ever(browser: httpx.AsyncClient) -> None:
    answer = await browser.get(f"/console/{APP}")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "path", ["", APP, f"{DIGEST}/console.css", f"{DIGEST}/icon.svg", f"{DIGEST}/vendor/preact.js"]
)
async def test_every_file_has_its_type_and_the_headers_of_security(
    browser: httpx.AsyncClient, path: str
) -> None:
    answer = await browser.get(f"/console/{path}")
    assert answer.status_code == 200
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "": "text/html"}
    assert answer.headers["content-type"].startswith(types[path.rpartition(".")[2]])
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert {"require-trusted-types-for 'script'", "trusted-types 'none'"} <= set(policy)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip, br", True),
        ("br, GZIP;q=0.5", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("br, gzip; q=0.0", False),
    ],
)
async def test_file_is_compressed_for_those_who_take_it(
    browser: httpx.AsyncClient, accepted: str, is_compressed: bool
) -> None:
    async with browser.stream("GET", f"/console/{APP}", headers={"Accept-Encoding": accepted}) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert (answer.headers.get("content-encoding") == "gzip") == is_compressed
    assert answer.headers["vary"] == "Accept-Encoding"
    assert (gzip.decompress(raw) if is_compressed else raw) == console_files().files[APP].content


@pytest.mark.parametrize("path", ["/", "/console", "/console/", f"/console/{APP}"])
async def test_head_has_the_headers_of_get(browser: httpx.AsyncClient, path: str) -> None:
    got, asked = await browser.get(path), await browser.head(path)
    assert (asked.status_code, asked.headers) == (got.status_code, got.headers)


@pytest.mark.parametrize(
    "path",
    [
        "index.html",
        "app.js",
        "0000000000000000/app.js",
        f"{DIGEST}/",
        f"{DIGEST}/index.html",
        f"{DIGEST}/README.md",
        f"{DIGEST}/../../ingress.py",
        f"{DIGEST}/%2e%2e/%2e%2e/ingress.py",
        f"{DIGEST}/..%2f..%2fingress.py",
        f"{DIGEST}/app.js%00",
        "//etc/passwd",
    ],
)
async def test_other_paths_are_not_found(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(
        httpx.URL("http://evil.example").copy_with(raw_path=b"/console/" + path.encode())
    )
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "route_not_found"


async def test_files_take_no_other_methods(browser: httpx.AsyncClient) -> None:
    answer = await browser.post(f"/console/{APP}")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/", "/console", "/console/", "/console/x/y"])
def test_paths_of_the_console_need_no_key(path: str) -> None:
    assert console.is_of_console(path)


@pytest.mark.parametrize("path", ["/consoles", "/console.", "/v1/models", "/v1/console/", "//console/", ""])
def test_other_paths_need_a_key(path: str) -> None:
    assert not console.is_of_console(path)
