"""Starts a base model that has no replica because nobody used it.

    request  ->  ColdStart.wait  --a call that Serve queues-->  Serve starts a replica, which answers the call

Serve starts the first replica when a call waits in a handle. A broadcast never waits, so asking the replicas
for their health starts nothing.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from registry.errors import Unavailable
from registry.json_text import compact_json
from serve_app.deployment_options import base_model_application
from serve_app.shared_tasks import SharedTasks

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview

INFO_PERIOD_S = 5.0
"""The time between two lines that tell a client that the base model starts."""
MAX_AGE_S = 2.0
READ_S = 5.0
"""The time in which Serve's controller must answer. It has the answer in its memory, but it may be busy."""


class ColdStart:
    """The start of one base model, which all requests that wait for it share.

    `call` calls a replica, and waits until there is one. `timeout_s` returns the time for a start.
    """

    def __init__(
        self, base_model: str, call: Callable[[], Awaitable[None]], timeout_s: Callable[[], float]
    ) -> None:
        self._base_model = base_model
        self._call = call
        self._timeout_s = timeout_s
        self._starts: SharedTasks[None] = SharedTasks()

    async def wait(self) -> None:
        """Returns when a replica answers. Raises: Unavailable, if none does in time."""
        await self._starts.join("start", self._start)()

    def cancel(self) -> None:
        """Takes back the call that Serve queues, so that it starts no replica. Nobody may wait any more."""
        self._starts.cancel("start")

    async def _start(self) -> None:
        timeout_s = self._timeout_s()
        try:
            async with asyncio.timeout(timeout_s):
                await self._call()
        except TimeoutError:
            raise Unavailable(
                f"base model {self._base_model} did not start within {timeout_s:g} s; try again"
            ) from None


async def starting_lines(
    name: str, start: Coroutine[Any, Any, Any], period_s: float = INFO_PERIOD_S
) -> AsyncGenerator[str, None]:
    """Yields `info` lines until `start` has ended. Raises its error."""
    task = asyncio.create_task(start)
    try:
        while not task.done():
            yield compact_json({"type": "info", "message": f"Starting {name}"}) + "\n"
            await asyncio.wait([task], timeout=period_s)
        await task
    finally:
        task.cancel()


def can_start(application: "ApplicationStatusOverview") -> bool:
    """Returns True unless Serve has given up a start of the application, or removes it.

    While Serve builds an application again, because its settings were changed, it names no deployments of it.
    """
    from ray.serve.schema import ApplicationStatus, DeploymentStatus

    failed = (DeploymentStatus.UNHEALTHY, DeploymentStatus.DEPLOY_FAILED)
    is_there = application.status in (ApplicationStatus.RUNNING, ApplicationStatus.DEPLOYING)
    return is_there and all(found.status not in failed for found in application.deployments.values())


def startable_of_serve() -> frozenset[str]:
    """Returns the applications that can start. It blocks."""
    from ray import serve

    return frozenset(name for name, found in serve.status().applications.items() if can_start(found))


class Startable:
    """Knows which base models can start, as Serve sees it. Serve is asked at most once in MAX_AGE_S."""

    def __init__(
        self,
        read: Callable[[], frozenset[str]] = startable_of_serve,
        clock: Callable[[], float] = time.monotonic,
        read_s: float = READ_S,
    ) -> None:
        self._read = read
        self._read_s = read_s
        self._clock = clock
        self._reads: SharedTasks[None] = SharedTasks()
        self._found: frozenset[str] | None = None
        self._until_s = clock()

    async def has(self, base_model: str) -> bool | None:
        """Returns None if Serve's controller does not answer: nobody knows then."""
        if self._clock() >= self._until_s:
            try:
                # The read goes on in its thread. Others wait for the same one, so there is never a second.
                await asyncio.wait_for(self._reads.join("serve", self._learn)(), self._read_s)
            except TimeoutError:
                return None
        if self._found is None:
            return None
        return base_model_application(base_model) in self._found

    async def _learn(self) -> None:
        try:
            self._found = await asyncio.to_thread(self._read)
        except Exception:  # Serve's controller does not answer
            self._found = None
        self._until_s = self._clock() + MAX_AGE_S
