"""The start of a base model without replicas: who waits for it, how long, and what a client sees."""

import asyncio
import json
import threading

import pytest
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
    DeploymentStatusTrigger,
)

from registry.errors import Unavailable
from serve_app.api.cold_start import MAX_AGE_S, ColdStart, Startable, can_start, starting_lines
from serve_app.deployment_options import base_model_application, model_server_name
from tests.support.waiting import comes_true

UNSPECIFIED = DeploymentStatusTrigger.UNSPECIFIED


class Replica:
    """A replica that answers its first call when a test lets it start."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.has_started = asyncio.Event()

    async def call(self) -> None:
        self.num_calls += 1
        await self.has_started.wait()


async def test_requests_share_one_start() -> None:
    replica = Replica()
    start = ColdStart("one", replica.call, lambda: 60)
    waiting = [asyncio.create_task(start.wait()) for _ in range(5)]
    await comes_true(lambda: replica.num_calls == 1)
    waiting[0].cancel()
    replica.has_started.set()
    await asyncio.gather(*waiting[1:])
    assert replica.num_calls == 1


async def test_request_waits_only_for_a_limited_time_and_the_next_one_tries_again() -> None:
    replica = Replica()
    start = ColdStart("one", replica.call, lambda: 0.01)
    with pytest.raises(Unavailable, match=r"base model one did not start within 0\.01 s"):
        await start.wait()
    replica.has_started.set()
    await start.wait()
    assert replica.num_calls == 2


async def test_lines_come_at_once_and_again_until_the_start_has_ended() -> None:
    replica, lines = Replica(), []
    async for line in starting_lines("One", replica.call(), period_s=0.001):
        lines.append(json.loads(line))
        if len(lines) == 3:
            replica.has_started.set()
            break
    assert lines == [{"type": "info", "message": "Starting One"}] * 3


async def test_lines_end_with_the_start() -> None:
    replica = Replica()
    replica.has_started.set()
    assert len([line async for line in starting_lines("One", replica.call(), period_s=60)]) == 1


async def test_lines_end_with_the_error_of_the_start() -> None:
    async def start() -> None:
        raise Unavailable("base model one did not start within 1 s")

    with pytest.raises(Unavailable, match="did not start"):
        async for _ in starting_lines("One", start(), period_s=60):
            pass


async def test_client_that_goes_away_ends_its_wait() -> None:
    replica, is_ended = Replica(), asyncio.Event()

    async def start() -> None:
        try:
            await replica.call()
        finally:
            is_ended.set()

    lines = starting_lines("One", start(), period_s=60)
    await anext(lines)
    await comes_true(lambda: replica.num_calls == 1)
    await lines.aclose()
    await asyncio.wait_for(is_ended.wait(), 5)


class Serve:
    """The deployments that Serve calls able to start, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.num_reads = 0
        self.able: frozenset[str] = frozenset({base_model_application("one")})
        self.is_away = False

    def read(self) -> frozenset[str]:
        self.num_reads += 1
        if self.is_away:
            raise RuntimeError("no controller")
        return self.able


@pytest.mark.parametrize(
    ("application", "deployment", "expected"),
    [
        ("RUNNING", "HEALTHY", True),
        ("DEPLOYING", "UPSCALING", True),
        ("DEPLOYING", "UPDATING", True),
        ("DEPLOYING", None, True),
        ("RUNNING", "UNHEALTHY", False),
        ("DEPLOYING", "DEPLOY_FAILED", False),
        ("DEPLOY_FAILED", "DEPLOY_FAILED", False),
        ("UNHEALTHY", "UNHEALTHY", False),
        ("DELETING", "UPDATING", False),
        ("NOT_STARTED", None, False),
    ],
)
def test_application_can_start_unless_serve_has_given_it_up(
    application: str, deployment: str | None, expected: bool
) -> None:
    """Serve names no deployment while it builds an application again, because settings were changed."""
    own = [DeploymentStatusOverview(DeploymentStatus[deployment], UNSPECIFIED, {}, "")] if deployment else []
    deployments = {model_server_name("one"): each for each in own}
    found = ApplicationStatusOverview(ApplicationStatus[application], "", 0, deployments)
    assert can_start(found) is expected


async def test_serve_is_asked_seldom_which_base_models_can_start() -> None:
    serve = Serve()
    startable = Startable(serve.read, lambda: serve.now)
    assert await startable.has("one")
    assert not await startable.has("two")
    assert serve.num_reads == 1
    serve.able = frozenset()
    assert await startable.has("one")
    serve.now += MAX_AGE_S
    assert not await startable.has("one")


async def test_nobody_knows_while_serve_does_not_answer() -> None:
    serve = Serve()
    startable = Startable(serve.read, lambda: serve.now)
    assert await startable.has("one")
    serve.is_away = True
    serve.now += MAX_AGE_S
    assert await startable.has("one") is None
    serve.is_away = False
    serve.now += MAX_AGE_S
    assert await startable.has("one")


async def test_nobody_waits_for_a_serve_that_hangs_and_it_is_not_asked_again_meanwhile() -> None:
    may_answer, num_reads = threading.Event(), 0

    def read() -> frozenset[str]:
        nonlocal num_reads
        num_reads += 1
        may_answer.wait(10)
        return Serve().able

    startable = Startable(read, read_s=0.01)
    try:
        assert await startable.has("one") is None
        assert await startable.has("one") is None
        assert num_reads == 1
    finally:
        may_answer.set()
    while not await startable.has("one"):
        assert num_reads == 1
