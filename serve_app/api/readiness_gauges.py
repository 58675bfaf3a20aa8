"""Tells Prometheus the parts of `/readyz`, so that an alert can fire when one of them is missing.

storage, health of each base model  --every 5 s-->  gauges: 1 or 0

For `/readyz` a base model that is asleep is ready. An operator must know more: its gauge is 0 while a request
has started it and no node has the resources for its replica.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from registry.tasks import start_apart
from serve_app.api.base_model_health import BaseModelHealth
from serve_app.deployment_options import model_server_name
from serve_app.lasting_gauges import LastingGauges
from serve_app.resource_waits import ResourceWaits

PERIOD_S = 5.0


class ReadinessGauges:
    """The gauges of one ingress replica. `check_storage` raises an error if storage cannot be reached."""

    def __init__(
        self,
        check_storage: Callable[[], Awaitable[None]],
        health: Mapping[str, BaseModelHealth],
        gauges: LastingGauges,
        period_s: float = PERIOD_S,
        waits: ResourceWaits | None = None,
    ) -> None:
        self._check_storage = check_storage
        self._health = health
        self._period_s = period_s
        self._waits = waits or ResourceWaits()
        self._gauges = gauges
        self._storage = gauges.add("tiger_storage_reachable", "1 if the bucket can be read, else 0", ())
        self._base_models = gauges.add(
            "tiger_base_model_ready",
            "1 if the base model answers, or is asleep and waits for no resources, else 0",
            ("base_model",),
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
        asleep = {base_model for base_model, health in self._health.items() if health.is_asleep}
        stuck = await asyncio.to_thread(self._that_wait_for_resources, asleep) if asleep else set()
        for base_model, health in self._health.items():
            is_ready = health.is_available and base_model not in stuck
            self._base_models.set(float(is_ready), {"base_model": base_model})
            self._asleep.set(float(health.is_asleep), {"base_model": base_model})
        self._storage.set(float(await self._is_storage_reachable()), {})

    def _that_wait_for_resources(self, base_models: Collection[str]) -> set[str]:
        try:
            waiting = self._waits.of_replicas(map(model_server_name, base_models))
        except Exception:  # Ray's control store does not answer
            return set()
        return {base_model for base_model in base_models if model_server_name(base_model) in waiting}

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
