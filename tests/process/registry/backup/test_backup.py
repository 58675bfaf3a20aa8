"""Backups of a bucket of SeaweedFS, whose users go on writing, to buckets and directories."""

import secrets
from pathlib import Path

import pytest

from registry.backup.backup import Backup
from registry.backup.directory import DirectoryPlace
from registry.backup.place import IN_MEMORY_BYTES, Place
from registry.backup.progress import Report
from registry.backup.restore import Restore, check_backup
from registry.layout import open_bucket
from registry.revisions import CONFIG_FILE
from registry.store import ObjectStore
from tests.support.bucket_life import WEIGHTS_FILE, Life, living
from tests.support.whole_bucket import problems

NUM_USERS = 3
NUM_ACTS_BEFORE = 5


def quiet(line: str) -> None:
    """A report that nobody reads."""


def another_bucket(store: ObjectStore) -> ObjectStore:
    """An empty bucket of the same server."""
    name = f"bucket-{secrets.token_hex(8)}"
    found = ObjectStore(store.settings.model_copy(update={"bucket": name, "prefix": ""}))
    found.ensure_bucket()
    return found


def restored(place: Place, store: ObjectStore, report: Report = quiet) -> ObjectStore:
    target = another_bucket(store)
    Restore(place, target, report).run()
    open_bucket(target)
    return target


def test_copies_are_whole_while_users_go_on_writing(store: ObjectStore, tmp_path: Path) -> None:
    open_bucket(store)
    lives = [Life(store, f"user{n}", tmp_path / f"life{n}", seed=n) for n in range(NUM_USERS)]
    for life in lives:
        for _ in range(NUM_ACTS_BEFORE):
            life.act()
    places: list[Place] = [another_bucket(store), DirectoryPlace(tmp_path / "backup")]
    with living(lives):
        manifests = [Backup(store, place, quiet).make() for place in places]
    # The second backup has another content, because the users went on writing.
    assert manifests[0].objects != manifests[1].objects
    for place, manifest in zip(places, manifests, strict=True):
        assert manifest.damaged == ()
        assert problems(restored(place, store), lives) == []


@pytest.mark.parametrize("kind", ["bucket", "directory"])
def test_large_object_comes_back_byte_for_byte(store: ObjectStore, tmp_path: Path, kind: str) -> None:
    open_bucket(store)
    weights = secrets.token_bytes(IN_MEMORY_BYTES + 1)
    adapter = {CONFIG_FILE: b"{}", WEIGHTS_FILE: weights}
    life = Life(store, "alice", tmp_path / "life", seed=0, adapter=adapter)
    life.create()
    life.train(life.models()[0])
    place: Place = another_bucket(store) if kind == "bucket" else DirectoryPlace(tmp_path / "backup")
    manifest = Backup(store, place, quiet).make()
    assert check_backup(place, quiet) == manifest
    copy = restored(place, store)
    assert problems(copy, [life]) == []
    assert {key: copy.get(key).body for key in copy.list("")} == {
        key: store.get(key).body for key in store.list("")
    }
