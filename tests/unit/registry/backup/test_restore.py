"""Restores into buckets in memory, and checks of backups."""

import json
from pathlib import Path

import pytest

from registry.backup.backup import Backup
from registry.backup.directory import DirectoryPlace
from registry.backup.errors import BackupDamaged, BackupMissing, BackupRefused
from registry.backup.manifest import MANIFEST_KEY, OBJECTS
from registry.backup.restore import Restore, check_backup
from registry.keys import ApiKeys
from registry.layout import LAYOUT_KEY, open_bucket
from registry.leadership import TRAINER, Leader, Leadership
from registry.records import utc_now
from registry.store import ObjectStore, StorageUnfit
from tests.support.bucket_life import Life
from tests.support.memory_s3 import MemoryClient, memory_store, nothing

USER = "alice"


@pytest.fixture
def source(tmp_path: Path) -> ObjectStore:
    """A bucket with the life of one user."""
    store = memory_store()
    open_bucket(store)
    life = Life(store, USER, tmp_path / "life", seed=1)
    for _ in range(20):
        life.act()
    return store


@pytest.fixture
def place(source: ObjectStore, tmp_path: Path) -> DirectoryPlace:
    """A backup of that bucket in a directory."""
    place = DirectoryPlace(tmp_path / "backup")
    Backup(source, place, nothing).make()
    return place


def content(store: ObjectStore) -> dict[str, bytes]:
    return {key: store.get(key).body for key in store.list("")}


def restore(place: DirectoryPlace, target: ObjectStore, replace: bool = False) -> None:
    Restore(place, target, nothing).run(replace)


def test_bucket_comes_back_from_a_directory(source: ObjectStore, place: DirectoryPlace) -> None:
    target = memory_store()
    restore(place, target)
    assert content(target) == content(source)
    open_bucket(target)


def test_bucket_that_is_not_empty_is_refused_and_stays_as_it_is(place: DirectoryPlace) -> None:
    target = memory_store()
    open_bucket(target)
    ApiKeys(target).create("bob", "laptop")
    before = content(target)
    with pytest.raises(BackupRefused, match="--replace"):
        restore(place, target)
    assert content(target) == before


def test_opened_bucket_without_objects_counts_as_empty(source: ObjectStore, place: DirectoryPlace) -> None:
    target = memory_store()
    open_bucket(target)
    restore(place, target)
    assert content(target) == content(source)


def test_replaced_bucket_has_of_before_only_its_audit_log_and_foreign_objects(
    source: ObjectStore, place: DirectoryPlace
) -> None:
    kept = {"photos/cat.png": b"not of tiger", "audit/2026-11-26/entry/begun.json": b"{}"}
    target = memory_store()
    ApiKeys(target).create("bob", "laptop")
    target.put(next(iter(source.list("keys/"))), b"other bytes under the same key")
    target.put("leftovers/some-model", b"bob")
    for key, body in kept.items():
        target.put(key, body)
    restore(place, target, replace=True)
    assert content(target) == content(source) | kept


class Dying(Exception):
    """This error takes the place of a process that ends."""


def dying_after(num_writes: int, objects: dict[str, bytes]) -> ObjectStore:
    written: list[str] = []

    def die(key: str) -> None:
        written.append(key)
        if len(written) > num_writes:
            raise Dying

    return memory_store(MemoryClient(objects, before_write=die))


@pytest.mark.parametrize("num_writes", [6, 10, 30])
def test_interrupted_restore_goes_on_and_the_bucket_does_not_open_before(
    source: ObjectStore, place: DirectoryPlace, num_writes: int
) -> None:
    objects: dict[str, bytes] = {}
    with pytest.raises(Dying):
        restore(place, dying_after(num_writes, objects))
    with pytest.raises(StorageUnfit, match="repeat `tiger restore`"):
        open_bucket(memory_store(MemoryClient(objects)))

    there = {key for key in objects if not key.startswith(("probe/", LAYOUT_KEY))}
    again: list[str] = []
    restore(place, memory_store(MemoryClient(objects, before_write=again.append)))

    assert not there & set(again)
    objects = {key: body for key, body in objects.items() if not key.startswith("probe/")}
    assert objects == content(source)
    open_bucket(memory_store(MemoryClient(objects)))


def test_half_of_another_backup_is_refused_unless_it_is_replaced(
    source: ObjectStore, place: DirectoryPlace, tmp_path: Path
) -> None:
    objects: dict[str, bytes] = {}
    with pytest.raises(Dying):
        restore(place, dying_after(20, objects))
    ApiKeys(source).create(USER, "a later key")
    later = DirectoryPlace(tmp_path / "later")
    Backup(source, later, nothing).make()

    target = memory_store(MemoryClient(objects))
    with pytest.raises(BackupRefused, match="--replace"):
        restore(later, target)
    restore(later, target, replace=True)
    assert {key: body for key, body in content(target).items() if "probe" not in key} == content(source)


@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_damaged_backup_is_refused_before_anything_is_deleted(
    place: DirectoryPlace, tmp_path: Path, damage: str
) -> None:
    key = next(key for key in place.list(f"{OBJECTS}models/") if key.endswith(".safetensors"))
    path = tmp_path / "backup" / key
    if damage == "changed":
        path.write_bytes(bytes(64))
    else:
        path.unlink()
    with pytest.raises(BackupDamaged, match=key.removeprefix(OBJECTS)):
        check_backup(place, nothing)
    target = memory_store()
    ApiKeys(target).create("bob", "laptop")
    before = content(target)
    with pytest.raises(BackupDamaged):
        restore(place, target, replace=True)
    assert content(target) == before


def test_whole_backup_passes_the_check(place: DirectoryPlace) -> None:
    lines: list[str] = []
    manifest = check_backup(place, lines.append)
    assert len(manifest.objects) == len(place.list(OBJECTS))
    assert f"{len(manifest.objects)} objects" in lines[0]


def test_place_without_a_complete_backup_is_refused(place: DirectoryPlace) -> None:
    place.delete_many([MANIFEST_KEY])
    with pytest.raises(BackupMissing):
        restore(place, memory_store())


@pytest.mark.parametrize("key", ["keys/../../outside", "/etc/passwd", "photos/cat.png"])
def test_manifest_with_a_key_that_is_none_of_ours_is_refused(
    place: DirectoryPlace, tmp_path: Path, key: str
) -> None:
    path = tmp_path / "backup" / MANIFEST_KEY
    manifest = json.loads(path.read_text())
    manifest["objects"][0]["key"] = key
    path.write_text(json.dumps(manifest))
    with pytest.raises(BackupDamaged, match="cannot be read"):
        check_backup(place, nothing)


def test_backup_of_a_later_layout_is_refused(place: DirectoryPlace, tmp_path: Path) -> None:
    path = tmp_path / "backup" / MANIFEST_KEY
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layout": 99}))
    target = memory_store()
    with pytest.raises(StorageUnfit, match="layout 99"):
        restore(place, target)
    assert content(target) == {}


def test_next_leader_has_a_higher_epoch_than_the_former_one_also_with_a_slow_clock(
    source: ObjectStore, tmp_path: Path
) -> None:
    """Otherwise it would find its own records to be those of a later leader."""
    former = Leader(epoch=2**60, cluster="old", since=utc_now())
    source.create(f"leaders/{TRAINER}.json", former.model_dump_json().encode())
    place = DirectoryPlace(tmp_path / "with-a-leader")
    Backup(source, place, nothing).make()
    target = memory_store()
    restore(place, target)
    leadership = Leadership(target, TRAINER, "new")
    leadership.take()
    assert leadership.epoch > former.epoch
