"""The leadership over a bucket, between processes of the same and of different clusters."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.errors import Superseded
from registry.leadership import ROLES, TRAINER, Leadership, release
from registry.store import ObjectStore
from tests.support.queueing import Clock, CountingStore


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


def taken(store: ObjectStore, cluster: str, role: str = TRAINER) -> Leadership:
    leadership = Leadership(store, role, cluster)
    leadership.take()
    return leadership


def leads(leadership: Leadership) -> bool:
    leadership.look()
    return not leadership.is_superseded


def test_every_start_has_a_higher_epoch_and_the_latest_one_leads(store: ObjectStore) -> None:
    first, second, third = (taken(store, cluster) for cluster in ("old", "old", "new"))
    assert first.epoch < second.epoch < third.epoch
    assert [leads(each) for each in (first, second, third)] == [False, False, True]


def test_superseded_cluster_never_takes_the_leadership_back(store: ObjectStore) -> None:
    taken(store, "old")
    new = taken(store, "new")
    for _ in range(2):
        restarted = taken(store, "old")
        assert restarted.is_superseded and restarted.epoch < 0
        with pytest.raises(Superseded):
            restarted.require()
    assert leads(new)
    assert leads(taken(store, "new"))


def test_roles_are_independent(store: ObjectStore) -> None:
    both = [taken(store, "old", role) for role in ROLES]
    taken(store, "new", ROLES[0])
    assert [leads(each) for each in both] == [False, True]


def test_superseded_cluster_leads_again_after_a_release(store: ObjectStore) -> None:
    old, new = taken(store, "old"), taken(store, "new")
    assert not leads(old) and not old.is_released
    released = release(store, TRAINER)
    assert released is not None and released.cluster == "new"
    assert leads(new) and not leads(old) and old.is_released
    again = taken(store, "old")
    assert leads(again) and not leads(new)
    assert not new.is_released
    assert taken(store, "new").is_superseded


def test_release_without_a_leader_changes_nothing(store: ObjectStore) -> None:
    assert release(store, TRAINER) is None
    assert store.list("leaders/") == []


def test_epoch_grows_also_if_the_object_was_deleted(store: ObjectStore) -> None:
    old = taken(store, "old")
    store.delete("leaders/trainer.json")
    assert leads(old)
    new = taken(store, "new")
    assert new.epoch > old.epoch and not leads(old)


def test_many_that_start_at_once_have_different_epochs(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        leaders = list(pool.map(lambda number: taken(store, f"cluster-{number}"), range(8)))
    assert len({leader.epoch for leader in leaders}) == 8
    assert [leads(leader) for leader in leaders].count(True) == 1


async def test_leader_looks_again_only_when_the_last_look_is_old() -> None:
    store, clock = CountingStore(), Clock()
    leadership = Leadership(store, TRAINER, "old", clock)
    leadership.take()
    taken(store, "new")
    num_reads = store.operations["get"]
    await leadership.confirm()
    assert store.operations["get"] == num_reads
    with pytest.raises(Superseded):
        await leadership.confirm(max_age_s=0)

    clock.now_s += 10
    other = Leadership(store, TRAINER, "new", clock)
    other.take()
    clock.now_s += 10
    await other.confirm()
    taken(store, "newest")
    other.look_soon()
    await asyncio.sleep(0)
    assert not other.is_superseded, "the last look is new"
    clock.now_s += 10
    with pytest.raises(Superseded):
        await other.confirm()
