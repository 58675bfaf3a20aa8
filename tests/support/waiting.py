"""Waiting for a condition, in a thread or in an event loop. A test fails if it does not hold in time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PAUSE_S = 0.02
TOO_LATE = "it did not happen in time"


def wait_until(condition: Callable[[], bool], timeout_s: float, pause_s: float = PAUSE_S) -> float:
    """Wait until the condition holds; returns the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout_s, TOO_LATE
        time.sleep(pause_s)
    return time.monotonic() - start


async def comes_true(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait until the condition holds, while other tasks of the event loop run."""
    start = time.monotonic()
    await asyncio.sleep(0)
    while not condition():
        assert time.monotonic() - start < timeout_s, TOO_LATE
        await asyncio.sleep(PAUSE_S / 2)


async def becomes_true(condition: Callable[[], Awaitable[bool]], timeout_s: float = 20) -> None:
    """Wait until the awaited condition holds, while other tasks of the event loop run."""
    start = time.monotonic()
    while not await condition():
        assert time.monotonic() - start < timeout_s, TOO_LATE
        await asyncio.sleep(PAUSE_S / 2)
