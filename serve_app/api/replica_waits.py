"""An ingress replica remembers for a second which replicas wait for resources.

Anybody may ask `/readyz` as often as they like. Ray's control store is asked at most once a second.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping

from serve_app.shared_tasks import SharedTasks

MAX_AGE_S = 1.0


class ReplicaWaits:
    """The waits of the replicas. `ask` blocks, and returns what the replicas of each deployment wait for."""

    def __init__(
        self, ask: Callable[[], Mapping[str, str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._asks: SharedTasks[None] = SharedTasks()
        self._asked_s = -math.inf
        self._waits: Mapping[str, str] = {}

    async def of(self, deployment: str) -> str | None:
        """Returns what a replica waits for. None: it does not wait, or Ray did not answer a moment ago."""
        if self._asks.is_running("ask") or self._clock() - self._asked_s >= MAX_AGE_S:
            await self._asks.join("ask", self._learn)()
        return self._waits.get(deployment)

    async def _learn(self) -> None:
        try:
            self._waits = await asyncio.to_thread(self._ask)
        except Exception:  # Ray's control store does not answer
            self._waits = {}
        self._asked_s = self._clock()
