"""The controller's calls of the serving side: which errors it sees."""

from typing import cast

import pytest
from ray.exceptions import ActorDiedError

from registry.errors import Superseded, Unavailable
from registry.records import ModelRecord
from registry.retry import Retry
from serve_app.catalog.client import CatalogClient
from serve_app.model_server.client import ModelClient
from serve_app.training_deployment import ServingSide

BASE = "base"


class Replicas:
    """Replicas whose wake-up fails with these errors, one after the other, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.num_calls = 0
        self.epochs: list[int | None] = []

    async def take_back_gpu(self, epoch: int | None) -> None:
        self.num_calls += 1
        self.epochs.append(epoch)
        if self.errors:
            raise self.errors.pop(0)


class SupersededCatalog:
    """A Catalog that a later one has superseded."""

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        raise Superseded("a later one leads")


def serving_side(replicas: Replicas) -> ServingSide:
    return ServingSide(cast(CatalogClient, None), {BASE: cast(ModelClient, replicas)}, epoch=7)


@pytest.mark.parametrize("error", [RuntimeError("no memory"), ActorDiedError(), AssertionError("asleep")])
async def test_failed_wake_up_is_unavailable_whatever_it_failed_with(error: Exception) -> None:
    with pytest.raises(Unavailable):
        await serving_side(Replicas(error)).take_back_gpu(BASE)


async def test_failed_wake_up_is_repeated_until_it_succeeds() -> None:
    replicas = Replicas(RuntimeError("no memory"), ActorDiedError())
    side = serving_side(replicas)
    await Retry(first_pause_s=0, longest_pause_s=0).call_async(lambda: side.take_back_gpu(BASE))
    assert replicas.num_calls == 3


async def test_superseded_trainer_wakes_nobody_and_does_not_try_again() -> None:
    replicas = Replicas(Superseded("a later one leads"))
    side = serving_side(replicas)
    with pytest.raises(Superseded):
        await Retry(first_pause_s=0, longest_pause_s=0).call_async(lambda: side.take_back_gpu(BASE))
    assert replicas.epochs == [7]


async def test_superseded_catalog_is_unavailable_for_the_trainer_which_may_still_lead() -> None:
    """The Catalog of the same cluster may have been replaced; the next one takes the repeated call."""
    side = ServingSide(cast(CatalogClient, SupersededCatalog()), {})
    with pytest.raises(Unavailable):
        await side.publish("alice", "uid", 1)
