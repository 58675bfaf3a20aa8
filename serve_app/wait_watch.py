"""Measures how long replicas and training runs have waited for resources, for Prometheus.

    the pending placement groups, every few seconds  ->  the age of the wait of each base model, by kind

The gauge is 0 while nothing waits, so that an alert finds it before it is needed. Ray adds `ray_` to its
name.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from ray.util.metrics import Gauge

from serve_app.resource_waits import Cluster, PendingGroup

logger = logging.getLogger("ray.serve")

LOOK_INTERVAL_S = 5.0

Part = tuple[str, str]
"""A base model, and the kind of what waits: `replica` or `training`."""
Report = Callable[[Part, float], None]


def wait_gauge() -> Report:
    """Returns a function that sets the gauge of Ray."""
    gauge = Gauge(
        "tiger_resource_wait_seconds",
        "Time for which a replica or a training run has waited for resources in seconds; 0: none waits",
        ("base_model", "kind"),
    )
    return lambda part, wait_s: gauge.set(wait_s, dict(zip(("base_model", "kind"), part, strict=True)))


class WaitWatch:
    """A watch over what may wait.

    `parts` returns a function for each part at this time, which recognises its placement groups.
    """

    def __init__(
        self,
        cluster: Cluster,
        parts: Callable[[], Mapping[Part, Callable[[PendingGroup], bool]]],
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._parts = parts
        self._report = report
        self._clock = clock
        self._since: dict[Part, float] = {}

    async def watch(self) -> None:
        """Look again and again, without end."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except Exception:
                logger.exception("it is not known what waits for resources")
            await asyncio.sleep(LOOK_INTERVAL_S)

    def look(self) -> None:
        """Report the age of the wait of every part. A wait begins with the look that sees it first."""
        groups = self._cluster.pending_groups()
        now = self._clock()
        parts = self._parts()
        # A base model that was removed while it waited may come back.
        self._since = {part: since for part, since in self._since.items() if part in parts}
        for part, is_of_part in parts.items():
            if any(map(is_of_part, groups)):
                self._since.setdefault(part, now)
            else:
                self._since.pop(part, None)
            self._report(part, now - self._since.get(part, now))
