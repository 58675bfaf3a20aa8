"""Requests wait while the GPU is lent, and each is let in before the GPU is lent again."""

import asyncio

import pytest

from registry.errors import Superseded
from serve_app.model_server.gpu_gate import AwakeEngine, GpuGate


class Engine:
    def __init__(self) -> None:
        self.is_awake = True
        self.has_finished = asyncio.Event()
        self.has_finished.set()
        self.removed: list[int] = []

    async def pause(self) -> None:
        assert self.is_awake
        await self.has_finished.wait()

    async def sleep(self) -> None:
        assert self.has_finished.is_set()
        await asyncio.sleep(0)
        self.is_awake = False

    async def wake_up(self) -> None:
        await asyncio.sleep(0)
        self.is_awake = True

    async def add_lora(self, lora_request: str) -> bool:
        return True

    async def remove_lora(self, lora_id: int) -> bool:
        assert self.is_awake
        self.removed.append(lora_id)
        return True


class Request:
    """A request that is inside from `begun` until the test lets it end."""

    def __init__(self, gate: GpuGate, engine: Engine) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self._engine = engine
        self.task = asyncio.create_task(self._run(gate))

    async def _run(self, gate: GpuGate) -> None:
        async with gate.inside():
            assert self._engine.is_awake
            self.begun.set()
            await self.may_end.wait()
            assert self._engine.is_awake

    async def end(self) -> None:
        self.may_end.set()
        await asyncio.wait_for(self.task, 5)


@pytest.fixture
async def engine() -> Engine:
    return Engine()


@pytest.fixture
async def gate(engine: Engine) -> GpuGate:
    return GpuGate(engine.pause, engine.sleep, engine.wake_up)


async def settled() -> None:
    """Let all tasks run until each of them waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_running_request_ends_before_the_engine_sleeps(gate: GpuGate, engine: Engine) -> None:
    running = Request(gate, engine)
    await running.begun.wait()
    lending = asyncio.create_task(gate.lend())
    await settled()
    late = Request(gate, engine)
    await settled()
    assert engine.is_awake and not lending.done() and not late.begun.is_set()
    await running.end()
    await asyncio.wait_for(lending, 5)
    assert not engine.is_awake and gate.num_waiting == 1
    await gate.take_back()
    await late.end()


async def test_all_who_waited_are_served_before_the_gpu_is_lent_again(gate: GpuGate, engine: Engine) -> None:
    await gate.lend()
    waiting = [Request(gate, engine) for _ in range(3)]
    await settled()
    await gate.take_back()
    lending = asyncio.create_task(gate.lend())  # none of those who waited has run since
    await settled()
    assert all(request.begun.is_set() for request in waiting) and not lending.done()
    for request in waiting:
        await request.end()
    await asyncio.wait_for(lending, 5)
    assert not engine.is_awake


async def test_a_request_that_the_engine_computes_keeps_nobody_waiting(gate: GpuGate, engine: Engine) -> None:
    """The engine finishes it before it sleeps, and its client may read the answer slowly."""
    async with gate.inside() as place:
        engine.has_finished.clear()
        place.leave()
        closing = asyncio.create_task(gate.close())
        await settled()
        assert not closing.done(), "the engine computes it"
        engine.has_finished.set()
        await asyncio.wait_for(closing, 5)
        await asyncio.wait_for(gate.lend(), 5)
        assert not engine.is_awake
        place.leave()
    await gate.take_back()
    async with gate.inside():
        lending = asyncio.create_task(gate.lend())
        await settled()
        assert not lending.done(), "each place is left once"
    await asyncio.wait_for(lending, 5)


async def test_a_request_that_goes_away_keeps_nobody_waiting(gate: GpuGate, engine: Engine) -> None:
    await gate.lend()
    early, late = Request(gate, engine), Request(gate, engine)
    await settled()
    early.task.cancel()
    await settled()
    assert gate.num_waiting == 1
    taking_back = asyncio.create_task(gate.take_back())
    while gate.num_waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    late.task.cancel()  # at the moment at which it is let in
    await taking_back
    await asyncio.wait_for(gate.lend(), 5)
    assert not engine.is_awake


async def test_what_is_taken_back_before_it_was_lent_is_awake(gate: GpuGate, engine: Engine) -> None:
    await gate.close()
    await gate.take_back()
    async with gate.inside():
        assert engine.is_awake


async def test_taking_back_what_was_not_lent_does_nothing(gate: GpuGate, engine: Engine) -> None:
    engine.is_awake = False
    await gate.take_back()
    assert not engine.is_awake


async def test_adapters_are_removed_when_the_engine_is_awake(gate: GpuGate, engine: Engine) -> None:
    awake = AwakeEngine(lambda: engine, gate)
    async with gate.inside():
        assert await awake.add_lora("an adapter")
    await gate.lend()
    removing = asyncio.create_task(awake.remove_lora(7))
    await settled()
    assert engine.removed == []
    await gate.take_back()
    assert await asyncio.wait_for(removing, 5)
    assert engine.removed == [7]


async def test_superseded_trainer_cannot_wake_or_lend_what_a_later_one_uses(
    gate: GpuGate, engine: Engine
) -> None:
    await gate.lend(1)
    await gate.take_back(2)
    await gate.lend(2)
    for act in (gate.take_back, gate.lend, gate.close):
        with pytest.raises(Superseded):
            await act(1)
    assert not engine.is_awake
    await gate.take_back(2)
    with pytest.raises(Superseded):
        await gate.lend(1)
    assert engine.is_awake
    await gate.take_back(None)
