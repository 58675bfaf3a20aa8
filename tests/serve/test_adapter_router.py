"""Requests for one adapter on a deployment with two replicas, which use the router of our model servers."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from ray import serve
from ray.serve.config import RequestRouterConfig

from registry.deployment_calls import DeploymentCalls
from serve_app.model_server.adapter_router import AdapterRouter
from tests.support.service import Service

MAX_LEAD = 4
APPLICATION = "adapter-router"


class Holding:
    """A replica that loads adapters and holds each request until `release`."""

    def __init__(self) -> None:
        self._is_released = asyncio.Event()
        self._num_held = 0

    @serve.multiplexed(max_num_models_per_replica=4)
    async def _load(self, adapter_id: str) -> str:
        return adapter_id

    async def hold(self) -> None:
        await self._load(serve.get_multiplexed_model_id())
        self._num_held += 1
        await self._is_released.wait()

    async def num_held(self) -> int:
        return self._num_held

    async def release(self) -> None:
        self._is_released.set()


@pytest.fixture
def replicas(service: Service) -> Iterator[DeploymentCalls[Holding]]:
    deployment: Any = serve.deployment(
        Holding,
        num_replicas=2,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
        request_router_config=RequestRouterConfig(
            request_router_class=AdapterRouter, request_router_kwargs={"max_lead": MAX_LEAD}
        ),
    )
    yield DeploymentCalls(serve.run(deployment.bind(), name=APPLICATION, route_prefix=None))
    serve.delete(APPLICATION)


async def test_busy_adapter_is_on_both_replicas(replicas: DeploymentCalls[Holding]) -> None:
    requests = []
    for num_sent in range(1, 31):
        requests.append(replicas.with_adapter("uid@1").call(Holding.hold))
        await _arrived(replicas, num_sent)
    held = await replicas.call_all(Holding.num_held)
    assert sum(held) == 30
    assert abs(held[0] - held[1]) <= MAX_LEAD + 1, held
    await replicas.call_all(Holding.release)
    await asyncio.gather(*requests)


async def _arrived(replicas: DeploymentCalls[Holding], num: int) -> None:
    async with asyncio.timeout(20):
        while sum(await replicas.call_all(Holding.num_held)) < num:
            await asyncio.sleep(0.01)
