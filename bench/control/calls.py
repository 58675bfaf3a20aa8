"""Requests over connections that stay open, by aiohttp, which takes little of a small machine for itself."""

import time
from collections.abc import Awaitable
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from bench.temporary_instance import bearer

TIMEOUT_S = 600


def session(url: str) -> ClientSession:
    """A client session that opens as many connections as there are requests at once."""
    return ClientSession(url, timeout=ClientTimeout(total=TIMEOUT_S))


async def call(
    http: ClientSession,
    method: str,
    path: str,
    key: str | None = None,
    body: dict[str, Any] | None = None,
    expected: int = 200,
) -> bytes:
    """The body of the answer. Raises: RuntimeError: the status is not the expected one."""
    async with http.request(method, path, headers=bearer(key) if key else {}, json=body) as answer:
        content = await answer.read()
    if answer.status != expected:
        raise RuntimeError(f"{method} {path}: {answer.status} {content[:500].decode(errors='replace')}")
    return content


async def timed(work: Awaitable[object]) -> float:
    """The seconds that `work` takes."""
    start = time.perf_counter()
    await work
    return time.perf_counter() - start
