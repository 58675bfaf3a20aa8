"""How often an ingress replica asks Ray what waits. The test is Ray and the clock."""

import asyncio
import threading

import pytest

from serve_app.api.replica_waits import MAX_AGE_S, ReplicaWaits

WAITS = {"ModelServer:one": "1 GPU (0 of 1 free)"}


class Ray:
    """A control store that counts the questions. It answers when the test lets it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.num_asked = 0
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def clock(self) -> float:
        return self.now_s

    def ask(self) -> dict[str, str]:
        self.num_asked += 1
        assert self.may_answer.wait(20)
        if self.error is not None:
            raise self.error
        return WAITS


@pytest.fixture
def ray() -> Ray:
    return Ray()


async def test_ray_is_asked_once_a_second(ray: Ray) -> None:
    waits = ReplicaWaits(ray.ask, ray.clock)
    for _ in range(3):
        assert await waits.of("ModelServer:one") == WAITS["ModelServer:one"]
        assert await waits.of("ModelServer:two") is None
    assert ray.num_asked == 1
    ray.now_s += MAX_AGE_S
    await waits.of("ModelServer:one")
    assert ray.num_asked == 2


async def test_calls_at_the_same_time_share_one_question(ray: Ray) -> None:
    waits = ReplicaWaits(ray.ask, ray.clock)
    ray.may_answer.clear()
    calls = [asyncio.ensure_future(waits.of("ModelServer:one")) for _ in range(5)]
    await asyncio.sleep(0)
    ray.may_answer.set()
    assert await asyncio.gather(*calls) == [WAITS["ModelServer:one"]] * 5
    assert ray.num_asked == 1


async def test_ray_that_does_not_answer_leaves_the_reason_unknown(ray: Ray) -> None:
    waits = ReplicaWaits(ray.ask, ray.clock)
    await waits.of("ModelServer:one")
    ray.now_s += MAX_AGE_S
    ray.error = RuntimeError("Ray does not answer")
    for _ in range(2):
        assert await waits.of("ModelServer:one") is None
    assert ray.num_asked == 2
