"""Does work that several requests wait for once, in a separate task, and again if the task is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from registry.errors import UNREACHABLE, Unavailable
from registry.tasks import start_apart

ATTEMPTS = 3

T = TypeVar("T")


def is_being_cancelled() -> bool:
    """Returns True if a CancelledError is for this task, and not only for something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class SharedTasks(Generic[T]):
    """Tasks by key. At most one task for each key runs at a time."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}

    def is_running(self, key: str) -> bool:
        return key in self._running

    def join(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> Callable[[], Awaitable[T]]:
        """Starts `work`, unless it runs already, and returns a function that waits for it.

        The function raises the errors of the work, and Unavailable if the work is cancelled ATTEMPTS times.
        """
        task = self._start(key, work)

        async def result() -> T:
            for attempt in range(ATTEMPTS):
                try:
                    return await asyncio.shield(task if attempt == 0 else self._start(key, work))
                except asyncio.CancelledError:
                    if is_being_cancelled():
                        raise
            raise Unavailable(UNREACHABLE)

        return result

    def cancel(self, key: str) -> None:
        """Cancels the task of a key. Those who still wait for it begin it again, so they must end before."""
        if (task := self._running.get(key)) is not None:
            task.cancel()

    def _start(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        running = self._running.get(key)
        if running is None or running.done():
            running = self._running[key] = start_apart(work())
            running.add_done_callback(lambda task: self._ended(key, task))
        return running

    def _ended(self, key: str, task: asyncio.Task[T]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()  # marks the error as seen, as all requests that wait may have gone away
