"""An ingress replica applies changed settings, and keeps what it counts and knows."""

from typing import Any, cast

import pytest

from registry.errors import RateLimited, Unavailable
from registry.settings import StorageSettings
from serve_app.api.backends import Backends
from serve_app.api.trainer_client import TrainerClient
from serve_app.catalog.client import CatalogClient
from serve_app.model_server.client import ModelClient
from serve_app.settings import Settings
from tests.support.catalogs import settings_of


class Replica:
    """The replicas of one base model, which are healthy."""

    async def num_healthy(self, timeout_s: float) -> int:
        return 1

    async def wait_for_one(self) -> None:
        return None


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
