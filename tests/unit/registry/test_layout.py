"""The version of the bucket's layout, on a bucket in memory."""

import json

import pytest

from registry.layout import LAYOUT_KEY, UPGRADES, BucketLayout, Layout, open_bucket
from registry.store import ObjectStore, StorageUnfit
from tests.support.memory_s3 import MemoryClient, memory_store


def stored(store: ObjectStore) -> object:
    return json.loads(store.get(LAYOUT_KEY).body)


def test_new_bucket_gets_the_version_of_this_release() -> None:
    store = memory_store()
    open_bucket(store)
    assert stored(store) == {"version": len(UPGRADES)}
    assert store.list("") == [LAYOUT_KEY]


def test_bucket_of_this_release_is_only_read() -> None:
    client = MemoryClient()
    open_bucket(memory_store(client))
    writes: list[str] = []
    BucketLayout(memory_store(MemoryClient(client.objects, before_write=writes.append))).open()
    assert writes == []


def test_bucket_of_a_later_release_is_refused_and_stays_as_it_is() -> None:
    store = memory_store()
    store.put(LAYOUT_KEY, b'{"version": 99, "a_later_field": true}')
    with pytest.raises(StorageUnfit, match=r"layout 99.*a later one"):
        open_bucket(store)
    assert stored(store) == {"version": 99, "a_later_field": True}


def test_unreadable_version_is_refused() -> None:
    store = memory_store()
    store.put(LAYOUT_KEY, b"{")
    with pytest.raises(StorageUnfit, match="cannot be read"):
        open_bucket(store)


def test_bucket_with_half_of_a_backup_is_refused() -> None:
    store = memory_store()
    BucketLayout(store).save(Layout(version=0, restoring="a backup"), None)
    with pytest.raises(StorageUnfit, match="repeat `tiger restore`"):
        open_bucket(store)
    assert stored(store) == {"version": 0, "restoring": "a backup"}


def test_older_bucket_is_upgraded_step_by_step_from_its_version() -> None:
    store = memory_store()
    open_bucket(store)
    done: list[str] = []
    steps = [lambda _, name=name: done.append(name) for name in ("0 to 1", "1 to 2", "2 to 3")]
    BucketLayout(store, steps).open()
    assert done == ["1 to 2", "2 to 3"]
    assert stored(store) == {"version": 3}


def test_upgrade_that_dies_is_repeated() -> None:
    store = memory_store()
    tries: list[int] = []

    def die_once(_: ObjectStore) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BucketLayout(store, [die_once]).open()
    assert store.list("") == []
    BucketLayout(store, [die_once]).open()
    assert len(tries) == 2 and stored(store) == {"version": 1}


def test_process_that_loses_the_race_accepts_the_version_of_the_first() -> None:
    store = memory_store()
    BucketLayout(store, [lambda store: BucketLayout(store).open()]).open()
    assert stored(store) == {"version": 1}


def test_process_that_loses_the_race_to_a_later_release_is_refused() -> None:
    def a_later_release(store: ObjectStore) -> None:
        store.put(LAYOUT_KEY, b'{"version": 2}')

    with pytest.raises(StorageUnfit, match="layout 2"):
        BucketLayout(memory_store(), [a_later_release]).open()


@pytest.mark.parametrize("key", ["keys/a.json", "audit/2030-01-01/a/begun.json", LAYOUT_KEY])
def test_command_beside_an_older_release_upgrades_nothing(key: str) -> None:
    store = memory_store()
    store.put(key, b'{"version": 0}')
    with pytest.raises(StorageUnfit, match=f"layout 0.* layout {len(UPGRADES)}: its service upgrades"):
        BucketLayout(store).require_current()
    assert store.list("") == [key]
    open_bucket(store)
    BucketLayout(store).require_current()


def test_command_gives_a_new_bucket_the_layout_of_this_release() -> None:
    store = memory_store()
    store.probe()
    BucketLayout(store).require_current()
    assert stored(store) == {"version": len(UPGRADES)}


def test_command_accepts_a_new_bucket_that_the_service_opens_meanwhile() -> None:
    client = MemoryClient()

    def open_first(prefix: str) -> None:
        if prefix == "" and not client.objects:
            service = memory_store(client)
            open_bucket(service)
            service.put("leaders/catalog.json", b"{}")

    BucketLayout(memory_store(MemoryClient(client.objects, before_read=open_first))).require_current()
    assert len(client.objects) == 2


@pytest.mark.parametrize(
    ("layout", "complaint"),
    [(Layout(version=99), "a later one"), (Layout(restoring="a backup"), "repeat `tiger restore`")],
)
def test_command_refuses_what_the_service_refuses(layout: Layout, complaint: str) -> None:
    store = memory_store()
    BucketLayout(store).save(layout, None)
    with pytest.raises(StorageUnfit, match=complaint):
        BucketLayout(store).require_current()
