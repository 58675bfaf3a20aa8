"""Tells Prometheus the parts of `/readyz`, so that an alert can fire when one of them is missing.

storage, health of each base model  --every 5 s-->  gauges: 1 or 0
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from registry.tasks import start_apart
from serve_app.api.base_model_health import BaseModelHealth
from serve_app.lasting_gauges import LastingGauges

PERIOD_S = 5.0


class ReadinessGauges:
    """The gauges of one ingress replica. `check_storage` raises an error if storage cannot be reached."""

    def __init__(
        self,
        check_storage: Callable[[], Awaitable[None]],
        health: Mapping[str, BaseModelHealth],
        gauges: LastingGauges,
        period_s: float = PERIOD_S,
    ) -> None:
        self._check_storage = check_storage
        self._health = health
        self._period_s = period_s
        self._gauges = gauges
        self._storage = gauges.add("tiger_storage_reachable", "1 if the bucket can be read, else 0", ())
        self._base_models = gauges.add(
            "tiger_base_model_ready", "1 if the base model answers or is asleep, else 0", ("base_model",)
        )
        self._asleep = gauges.add(
            "tiger_base_model_asleep",
            "1 if the base model has no replica because nobody uses it, else 0",
            ("base_model",),
        )
        self._telling: asyncio.Task[Any] | None = None

    def start(self) -> None:
        self._gauges.start()
        self._telling = start_apart(self._tell_regularly())

    async def tell(self) -> None:
        """Sets all gauges to their present values."""
        for gauge in (self._base_models, self._asleep):
            gauge.keep_only({"base_model": base_model} for base_model in self._health)
        for base_model, health in self._health.items():
            self._base_models.set(float(health.is_available), {"base_model": base_model})
            self._asleep.set(float(health.is_asleep), {"base_model": base_model})
        self._storage.set(float(await self._is_storage_reachable()), {})

    async def _is_storage_reachable(self) -> bool:
        try:
            await self._check_storage()
        except Exception:
            return False
        return True

    async def _tell_regularly(self) -> None:
        while True:
            await self.tell()
            await asyncio.sleep(self._period_s)
