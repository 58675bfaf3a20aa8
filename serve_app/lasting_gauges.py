"""Gauges that stay in Prometheus while their values do not change.

Every 10 s Ray sends to its agent the gauges that were set since the last time. The agent forgets a series
that it did not get for two such intervals. A gauge that is set once is therefore absent from most scrapes,
and an alert on it can never fire. The process that owns these gauges sets them again on a period.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from ray.util.metrics import Gauge

from registry.tasks import start_apart

PERIOD_S = 1.0
"""It is Ray's shortest interval (`metrics_report_interval_ms`), so that every export has every gauge."""


class Settable(Protocol):
    """The part of Ray's Gauge that is used here."""

    def set(self, value: float, tags: dict[str, str] | None = None) -> None: ...


BuildGauge = Callable[[str, str, tuple[str, ...]], Settable]


class LastingGauge:
    """One gauge, with the last value of each of its series."""

    def __init__(self, gauge: Settable) -> None:
        self._gauge = gauge
        self._values: dict[tuple[tuple[str, str], ...], float] = {}

    def set(self, value: float, labels: Mapping[str, str]) -> None:
        self._values[tuple(labels.items())] = value
        self._gauge.set(value, dict(labels))

    def keep_only(self, kept: Iterable[Mapping[str, str]]) -> None:
        """Forgets the other series. Prometheus no longer has them after Ray's next two intervals."""
        names = {tuple(labels.items()) for labels in kept}
        self._values = {labels: value for labels, value in self._values.items() if labels in names}

    def repeat(self) -> None:
        """Sets all series again to their last values."""
        for labels, value in self._values.items():
            self._gauge.set(value, dict(labels))


class LastingGauges:
    """The gauges of one process. `start` begins to repeat them on the event loop that runs then."""

    def __init__(self, build: BuildGauge = Gauge, period_s: float = PERIOD_S) -> None:
        self._build = build
        self._period_s = period_s
        self._gauges: list[LastingGauge] = []
        self._repeating: asyncio.Task[Any] | None = None

    def add(self, name: str, description: str, label_names: tuple[str, ...]) -> LastingGauge:
        gauge = LastingGauge(self._build(name, description, label_names))
        self._gauges.append(gauge)
        return gauge

    def start(self) -> None:
        self._repeating = start_apart(self._repeat_regularly())

    async def _repeat_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            for gauge in self._gauges:
                gauge.repeat()
