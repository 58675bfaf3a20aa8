"""The conditions under which a base model is unavailable, and the requests that this concerns."""

import asyncio
from typing import Any, cast

import pytest
from ray.serve.exceptions import DeploymentUnavailableError
from starlette.types import Receive, Scope, Send

from registry.errors import Unavailable
from serve_app.api.base_model_health import (
    ABSENCE_S,
    RETRY_S,
    SILENCE_S,
    WAITING_S,
    BaseModelHealth,
    Health,
    asking,
)
from serve_app.api.in_progress import InProgress
from serve_app.model_server.client import ModelClient
from tests.support.ray_private import DeploymentID
from tests.support.waiting import comes_true


class Replicas:
    """The answers of the replicas, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answer = Health.HEALTHY
        self.num_asked = 0

    def clock(self) -> float:
        return self.now

    async def ask(self) -> Health:
        self.num_asked += 1
        return self.answer


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


@pytest.fixture
def health(replicas: Replicas) -> BaseModelHealth:
    return BaseModelHealth("one", replicas.ask, replicas.clock)


async def is_refused(health: BaseModelHealth) -> bool:
    try:
        await health.require()
    except Unavailable as error:
        assert "one" in error.message
        return True
    return False


async def test_the_first_request_asks_before_it_is_refused(
    health: BaseModelHealth, replicas: Replicas
) -> None:
    assert not health.is_available, "nobody has asked yet"
    assert not await is_refused(health)
    assert health.is_available


@pytest.mark.parametrize("answer", [Health.FAULTY, Health.UNKNOWN])
async def test_one_that_was_never_well_is_unavailable(
    health: BaseModelHealth, replicas: Replicas, answer: Health
) -> None:
    replicas.answer = answer
    assert await is_refused(health)


async def test_one_whose_replicas_are_dead_is_unavailable_at_once_and_well_again_at_once(
    health: BaseModelHealth, replicas: Replicas
) -> None:
    await health.ask_now()
    replicas.answer = Health.FAULTY
    replicas.now += 1
    await health.ask_now()
    assert not health.is_available
    replicas.answer = Health.HEALTHY
    replicas.now += RETRY_S
    assert not await is_refused(health)


async def test_silence_for_a_while_is_not_death(health: BaseModelHealth, replicas: Replicas) -> None:
    await health.ask_now()
    replicas.answer = Health.UNKNOWN
    while replicas.now < 1000 + SILENCE_S - 1:
        replicas.now += 1
        await health.ask_now()
        assert health.is_available
    replicas.now += 1
    await health.ask_now()
    assert not health.is_available


async def test_many_requests_for_a_dead_one_do_not_ask_all_the_time(
    health: BaseModelHealth, replicas: Replicas
) -> None:
    replicas.answer = Health.FAULTY
    assert all(await asyncio.gather(*(is_refused(health) for _ in range(100))))
    assert replicas.num_asked == 1


async def test_requests_that_came_a_moment_too_early_are_sent_away(
    health: BaseModelHealth, replicas: Replicas
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def unused(*_: Any) -> Any:
        raise AssertionError

    waiting, answered = InProgress(), InProgress()
    answered.is_answered = True
    tasks = [asyncio.create_task(request.run(app, {}, unused, unused)) for request in (waiting, answered)]
    for request in (waiting, answered):
        await health.require(request)
    replicas.answer = Health.FAULTY
    await health.ask_now()
    assert waiting.error is None, "it may be one of a replica that is being replaced"
    replicas.now += WAITING_S
    await health.ask_now()
    await asyncio.wait_for(tasks[0], 5)
    assert isinstance(waiting.error, Unavailable)
    assert answered.error is None and not tasks[1].done()
    tasks[1].cancel()


async def test_it_is_asked_though_nobody_is_there(health: BaseModelHealth, replicas: Replicas) -> None:
    health.watch()
    async with asyncio.timeout(5):
        while not health.is_available:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_removed_base_model_refuses_and_ends_requests_that_wait_for_it(
    health: BaseModelHealth, replicas: Replicas
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await health.require(request)
        await asyncio.Event().wait()

    async def unused(*_: Any) -> Any:
        raise AssertionError

    request = InProgress()
    task = asyncio.create_task(request.run(app, {}, unused, unused))
    await comes_true(lambda: health.is_available)
    health.close(Unavailable("base model one is not deployed"))
    await asyncio.wait_for(task, 5)
    assert request.error is not None and "not deployed" in request.error.message
    num_asked = replicas.num_asked
    assert await is_refused(health)
    assert not health.is_available
    assert replicas.num_asked == num_asked, "nobody asks any more"


class Deployment:
    """A deployment of Serve that has no replicas for a while."""

    def __init__(self) -> None:
        self.has_replicas = True
        self.is_silent = False
        self.num_replicas = 1
        self.num_calls = 0

    async def check_one(self, timeout_s: float) -> None:
        self.num_calls += 1

    async def num_healthy(self, timeout_s: float) -> int:
        if self.is_silent:
            raise TimeoutError
        if not self.has_replicas:
            raise DeploymentUnavailableError(DeploymentID(name="ModelServer:one", app_name="base-model-one"))
        return self.num_replicas


async def test_moment_without_replicas_is_a_change_of_settings(replicas: Replicas) -> None:
    """Serve takes a replica out of its routing while it applies a changed user_config."""
    deployment = Deployment()
    ask = asking(cast(ModelClient, deployment), clock=replicas.clock)
    health = BaseModelHealth("one", ask, replicas.clock)
    await health.ask_now()
    for _ in range(2):
        deployment.has_replicas = False
        replicas.now += ABSENCE_S - 0.5
        await health.ask_now()
        assert health.is_available
        deployment.has_replicas = True
        await health.ask_now()
    deployment.has_replicas = False
    await health.ask_now()
    replicas.now += ABSENCE_S
    await health.ask_now()
    assert not health.is_available
    deployment.has_replicas = True
    await health.ask_now()
    assert health.is_available


async def test_lack_of_replicas_is_sleep_while_serve_can_start_one(replicas: Replicas) -> None:
    deployment, may_sleep = Deployment(), True

    async def may_it_sleep() -> bool:
        return may_sleep

    ask = asking(cast(ModelClient, deployment), clock=replicas.clock, may_sleep=may_it_sleep)
    deployment.has_replicas = False
    replicas.now += ABSENCE_S
    assert await ask() is Health.ASLEEP
    may_sleep = False
    assert await ask() is Health.UNKNOWN
    replicas.now += ABSENCE_S
    assert await ask() is Health.FAULTY


@pytest.mark.parametrize("was_asleep", [True, False])
async def test_base_model_stays_as_it_was_while_the_controller_of_serve_is_silent(
    replicas: Replicas, was_asleep: bool
) -> None:
    may_sleep: bool | None = was_asleep

    async def may_it_sleep() -> bool | None:
        return may_sleep

    deployment = Deployment()
    ask = asking(cast(ModelClient, deployment), clock=replicas.clock, may_sleep=may_it_sleep)
    deployment.has_replicas = False
    await ask()
    may_sleep = None
    replicas.now += ABSENCE_S + WAITING_S
    assert await ask() is (Health.ASLEEP if was_asleep else Health.FAULTY)


async def test_base_model_that_answered_is_not_asleep_because_the_controller_of_serve_is_silent(
    replicas: Replicas,
) -> None:
    """Its replica died. A request would wait for a start that nobody can make."""
    may_sleep: bool | None = True

    async def may_it_sleep() -> bool | None:
        return may_sleep

    deployment = Deployment()
    ask = asking(cast(ModelClient, deployment), clock=replicas.clock, may_sleep=may_it_sleep)
    deployment.has_replicas = False
    assert await ask() is Health.ASLEEP
    deployment.has_replicas = True
    assert await ask() is Health.HEALTHY
    deployment.has_replicas, may_sleep = False, None
    await ask()
    replicas.now += ABSENCE_S
    assert await ask() is Health.FAULTY


@pytest.mark.parametrize("may_sleep", [True, False])
async def test_question_calls_no_single_replica_that_it_could_start(may_sleep: bool) -> None:
    """Such a call waits in Serve if there is no replica, and Serve then starts one."""

    async def may_it_sleep() -> bool:
        return may_sleep

    deployment = Deployment()
    deployment.is_silent = True
    await asking(cast(ModelClient, deployment), may_sleep=may_it_sleep)()
    assert deployment.num_calls == (0 if may_sleep else 1)


async def test_one_silent_replica_of_several_says_nothing_about_the_others() -> None:
    """Serve never removes several replicas at once if the last one is among them. So a call starts none."""

    async def may_sleep() -> bool:
        return True

    deployment = Deployment()
    deployment.num_replicas = 2
    ask = asking(cast(ModelClient, deployment), may_sleep=may_sleep)
    assert await ask() is Health.HEALTHY
    deployment.is_silent = True
    assert await ask() is Health.HEALTHY
    assert deployment.num_calls == 1
    deployment.is_silent, deployment.has_replicas = False, False
    assert await ask() is Health.ASLEEP
    deployment.is_silent = True
    assert await ask() is Health.UNKNOWN
    assert deployment.num_calls == 1, "there may be no replica any more"
