"""Starts work that must go on after the request that began it, or that serves other requests too.

Ray Serve treats every call that is made in the context of a request as a part of that request, and cancels
it when the client goes away. Such work therefore needs a context of its own.
"""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def start_apart(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start `work` as a task in a context of its own."""
    return asyncio.create_task(work, context=Context())


class BackgroundTasks:
    """Work that nobody waits for. asyncio keeps no reference to a task, so it is kept here until its end."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `work` as a task in a context of its own."""
        task = start_apart(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
