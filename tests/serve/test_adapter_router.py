"""Requests for one adapter on a deployment with two replicas, which use the router of our model servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, RunningReplica

from registry.deployment_calls import DeploymentCalls
from serve_app.model_server.adapter_router import AdapterRouter
from tests.support.service import Service

MAX_LEAD = 4
ADAPTER = "uid@1"
APPLICATION = "adapter-router"


class WatchedRouter(AdapterRouter):
    """The router, which tells how many replicas it knows to have the adapter."""

    num_having: ClassVar[int] = 0

    async def choose_replicas(
        self, candidate_replicas: Sequence[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        WatchedRouter.num_having = sum(ADAPTER in each.multiplexed_model_ids for each in candidate_replicas)
        return await super().choose_replicas(candidate_replicas, pending_request)


class Holding:
    """A replica that loads adapters and holds each request until `release`."""

    def __init__(self) -> None:
        self._is_released = asyncio.Event()

    @serve.multiplexed(max_num_models_per_replica=4)
    async def _load(self, adapter_id: str) -> str:
        return adapter_id

    async def hold(self) -> AsyncIterator[str]:
        """Yields the id of this replica when the request is in progress."""
        await self._load(serve.get_multiplexed_model_id())
        yield serve.get_replica_context().replica_id.unique_id
        await self._is_released.wait()

    async def answer(self) -> None:
        """Does nothing."""

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
            request_router_class=WatchedRouter, request_router_kwargs={"max_lead": MAX_LEAD}
        ),
    )
    yield DeploymentCalls(serve.run(deployment.bind(), name=APPLICATION, route_prefix=None))
    serve.delete(APPLICATION)


async def test_busy_adapter_is_on_both_replicas(replicas: DeploymentCalls[Holding]) -> None:
    """The requests come one after another, so that the handle knows how many each replica has."""
    holding: Counter[str] = Counter()
    requests = []
    for _ in range(30):
        requests.append(aiter(replicas.with_adapter(ADAPTER).stream(Holding.hold)))
        holding[await anext(requests[-1])] += 1
        async with asyncio.timeout(30):
            while WatchedRouter.num_having < len(holding):  # Serve tells the handles a moment later
                await replicas.call(Holding.answer)
    await replicas.call_all(Holding.release)
    most, least = sorted(holding.values(), reverse=True)
    assert most - least <= MAX_LEAD + 1, holding
