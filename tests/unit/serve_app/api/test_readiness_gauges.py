"""The gauges of an ingress replica follow storage and the health of the base models."""

import pytest

from registry.errors import Unavailable
from serve_app.api.base_model_health import BaseModelHealth, Health
from serve_app.api.readiness_gauges import ReadinessGauges
from serve_app.lasting_gauges import LastingGauges
from serve_app.resource_waits import PendingGroup, ResourceWaits
from tests.support.gauges import Gauges
from tests.support.waiting import comes_true
from tests.unit.serve_app.test_resource_waits import REPLICA, FakeCluster


class World:
    """Storage and replicas that can be away."""

    def __init__(self) -> None:
        self.has_storage = True
        self.has_replica = True
        self.is_asleep = False

    async def check_storage(self) -> None:
        if not self.has_storage:
            raise Unavailable("away")

    async def ask(self) -> Health:
        if self.is_asleep:
            return Health.ASLEEP
        return Health.HEALTHY if self.has_replica else Health.FAULTY


@pytest.fixture
def world() -> World:
    return World()


async def test_gauges_are_one_while_all_is_there_and_zero_without_it(world: World) -> None:
    built = Gauges()
    health = {"one": BaseModelHealth("one", world.ask)}
    gauges = ReadinessGauges(world.check_storage, health, LastingGauges(built))

    async def told() -> list[float]:
        await health["one"].ask_now()
        await gauges.tell()
        return [
            built.values[f"tiger_{n}"] for n in ("base_model_ready{base_model=one}", "storage_reachable{}")
        ]

    assert await told() == [1, 1]
    world.has_replica = False
    assert await told() == [0, 1]
    world.has_storage = False
    assert await told() == [0, 0]
    world.has_replica = world.has_storage = True
    assert await told() == [1, 1]


async def test_gauges_are_told_again_and_again(world: World) -> None:
    built = Gauges()
    ReadinessGauges(world.check_storage, {}, LastingGauges(built), period_s=0.01).start()
    await comes_true(lambda: built.values == {"tiger_storage_reachable{}": 1.0})
    world.has_storage = False
    await comes_true(lambda: built.values == {"tiger_storage_reachable{}": 0.0})


async def test_sleeping_base_model_is_ready_and_is_said_to_sleep(world: World) -> None:
    built = Gauges()
    health = {"one": BaseModelHealth("one", world.ask)}
    cluster = FakeCluster([])
    waits = ResourceWaits(cluster)
    gauges = ReadinessGauges(world.check_storage, health, LastingGauges(built), waits=waits)

    async def told() -> list[float]:
        await health["one"].ask_now()
        await gauges.tell()
        return [built.values[f"tiger_base_model_{name}{{base_model=one}}"] for name in ("ready", "asleep")]

    assert await told() == [1, 0]
    world.is_asleep = True
    assert await told() == [1, 1]
    cluster.groups = [PendingGroup(REPLICA, [{"GPU": 1}])]
    assert await told() == [0, 1], "a request has started it, and no node has a free GPU"
    cluster.error = RuntimeError("the control store is away")
    assert await told() == [1, 1]
    world.is_asleep = world.has_replica = False
    assert await told() == [0, 0]
