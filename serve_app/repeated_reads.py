"""Repeats a read of a deployment whose replica died before it answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ray.exceptions import RayActorError

PATIENCE_S = 60.0
PAUSE_S = 0.1

T = TypeVar("T")


async def answered(read: Callable[[], Awaitable[T]]) -> T:
    """Returns the answer to a read. If the replica dies before it answers, the next replica is asked.

    A call that is made while there is no replica waits in Serve until there is one.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await read()
        except RayActorError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(PAUSE_S)
