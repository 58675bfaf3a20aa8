"""An ingress replica applies changed settings, and keeps what it counts and knows."""

import asyncio
from typing import Any, cast

import pytest
from ray.serve.exceptions import DeploymentUnavailableError

from registry.errors import RateLimited, Unavailable
from registry.settings import StorageSettings
from serve_app.api.backends import Backends
from serve_app.api.cold_start import Startable
from serve_app.api.trainer_client import TrainerClient
from serve_app.catalog.client import CatalogClient
from serve_app.deployment_options import base_model_application
from serve_app.model_server.client import ModelClient
from serve_app.scaling_settings import Autoscaling, BaseModelAutoscaling
from serve_app.settings import Settings
from tests.support.catalogs import settings_of
from tests.support.ray_private import DeploymentID
from tests.support.waiting import comes_true


class Replica:
    """The replicas of one base model, which are healthy."""

    async def num_healthy(self, timeout_s: float) -> int:
        return 1

    async def wait_for_one(self) -> None:
        return None


class Sleeping:
    """The replicas of a base model that nobody uses. There is none until a call has waited for one."""

    def __init__(self) -> None:
        self.has_started = False
        self.may_start = True
        self.num_asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def num_healthy(self, timeout_s: float) -> int:
        self.num_asked += 1
        await self.may_answer.wait()
        if not self.has_started:
            raise DeploymentUnavailableError(
                DeploymentID(name="ModelServer:base", app_name="base-model-base")
            )
        return 1

    async def wait_for_one(self) -> None:
        if not self.may_start:
            await asyncio.Event().wait()
        self.has_started = True


class Unused:
    """A deployment that is not called."""

    def __getattr__(self, name: str) -> Any:
        return None


@pytest.fixture
def settings() -> Settings:
    return settings_of(StorageSettings(endpoint_url="http://127.0.0.1:1"))


@pytest.fixture
def backends(settings: Settings) -> Backends:
    return Backends(
        settings,
        cast(CatalogClient, Unused()),
        cast(TrainerClient, Unused()),
        lambda base_model: cast(ModelClient, Replica()),
    )


def without_other(settings: Settings) -> Settings:
    return settings.model_copy(update={"models": settings.models[:1]})


async def test_base_model_that_stays_keeps_its_replicas_and_its_health(
    backends: Backends, settings: Settings
) -> None:
    await backends.ask_base_models()
    server, health = backends.servers["base"], backends.health["base"]
    backends.apply(without_other(settings))
    assert set(backends.servers) == set(backends.health) == {"base"}
    backends.apply(settings)
    assert set(backends.servers) == set(backends.health) == {"base", "other-1"}
    assert backends.servers["base"] is server and backends.health["base"] is health
    assert health.is_available


async def test_removed_base_model_is_refused_by_its_name_until_it_is_back(
    backends: Backends, settings: Settings
) -> None:
    resolved = backends.resolver.resolve((), "other-1")
    assert await backends.server(resolved) is backends.servers["other-1"]
    backends.apply(without_other(settings))
    with pytest.raises(Unavailable, match="base model other-1 is not deployed"):
        await backends.server(resolved)
    with pytest.raises(Unavailable, match="base model other-1 is not deployed"):
        await backends.tokenising_server("other-1")
    backends.apply(settings)
    assert await backends.server(resolved) is backends.servers["other-1"]


async def test_list_of_base_models_is_that_of_the_new_settings(
    backends: Backends, settings: Settings
) -> None:
    described = settings.models[0].model_copy(update={"description": "Another text."})
    backends.apply(settings.model_copy(update={"models": (described, settings.models[1])}))
    assert backends.resolver.resolve((), "base").base.description == "Another text."
    assert b"Another text." in backends.base_lines


async def test_changed_limits_hold_for_places_that_are_taken(backends: Backends, settings: Settings) -> None:
    with backends.downloads.held_by("alice") as take:
        take(settings.limits.max_concurrent_downloads_per_user)
        with pytest.raises(RateLimited):
            take(1)
        more = settings.limits.model_copy(update={"max_concurrent_downloads_per_user": 5})
        backends.apply(settings.model_copy(update={"limits": more}))
        take(1)
        with pytest.raises(RateLimited, match="you have 5 downloads"):
            take(1)


def with_sleep(settings: Settings, cold_start_timeout_s: float) -> Settings:
    """The settings in which base model `base` has no replica while nobody uses it."""
    autoscaling = BaseModelAutoscaling(min_replicas=0, cold_start_timeout_s=cold_start_timeout_s)
    serving = settings.models[0].serving.model_copy(update={"autoscaling": autoscaling})
    base = settings.models[0].model_copy(update={"serving": serving})
    return settings.model_copy(update={"models": (base, settings.models[1])})


def sleeping_backends(settings: Settings, replicas: Sleeping) -> Backends:
    """The backends whose base model `base` has these replicas, and can start."""
    able = frozenset({base_model_application("base")})
    return Backends(
        settings,
        cast(CatalogClient, Unused()),
        cast(TrainerClient, Unused()),
        lambda base_model: cast(ModelClient, replicas if base_model == "base" else Replica()),
        startable=Startable(lambda: able),
    )


async def test_base_model_that_is_removed_while_it_is_asked_for_its_health_is_refused_by_its_name(
    settings: Settings,
) -> None:
    replicas = Sleeping()
    replicas.may_answer.clear()
    backends = sleeping_backends(with_sleep(settings, 60), replicas)
    request = asyncio.create_task(backends.tokenising_server("base"))
    await comes_true(lambda: replicas.num_asked == 1)
    backends.apply(settings.model_copy(update={"models": settings.models[1:]}))
    replicas.may_answer.set()
    with pytest.raises(Unavailable, match="base model base is not deployed"):
        await asyncio.wait_for(request, 5)


async def test_request_for_a_sleeping_base_model_waits_for_its_start_as_long_as_the_settings_say(
    settings: Settings,
) -> None:
    replicas = Sleeping()
    replicas.may_start = False
    backends = sleeping_backends(with_sleep(settings, 0.01), replicas)
    await backends.ask_base_models()
    resolved, other = (backends.resolver.resolve((), name) for name in ("base", "other-1"))
    assert backends.is_asleep(resolved) and not backends.is_asleep(other)
    for asked in (backends.server(resolved), backends.tokenising_server("base")):
        with pytest.raises(Unavailable, match=r"did not start within 0\.01 s"):
            await asked
    replicas.may_start = True
    backends.apply(with_sleep(settings, 60))
    assert await backends.tokenising_server("base") is backends.servers["base"]
    assert replicas.has_started and not backends.is_asleep(resolved)


async def test_requests_a_minute_are_shared_by_the_largest_number_of_ingress_replicas(
    backends: Backends, settings: Settings
) -> None:
    ingress = settings.ingress.model_copy(update={"autoscaling": Autoscaling(max_replicas=4)})
    limits = settings.limits.model_copy(update={"max_requests_per_minute_per_user": 400})
    backends.apply(settings.model_copy(update={"ingress": ingress, "limits": limits}))
    headers, _ = backends.request_limit.count("alice")
    assert headers["x-ratelimit-limit-requests"] == "100"
