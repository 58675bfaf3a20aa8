"""Work that goes on after the request that began it, or for others too, is no part of that request.

Ray Serve takes every call that is made in the context of a request for a part of it, and cancels it when the
request's client goes away.
"""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def start_apart(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task in a context of its own."""
    return asyncio.create_task(work, context=Context())
