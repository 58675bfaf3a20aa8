"""Backups of a bucket in memory, in whose life the tests step in at any read."""

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.backup.backup import Backup
from registry.backup.errors import BackupRefused
from registry.backup.manifest import OBJECTS, BackupManifest
from registry.backup.place import Place
from registry.backup.restore import Restore
from registry.jobs import Jobs
from registry.keys import ApiKeys
from registry.layout import LAYOUT_KEY, open_bucket
from registry.records import JobStatus
from registry.reservations import Reservation
from registry.revisions import Revisions
from registry.store import ObjectStore, StorageUnfit
from registry.user_models import UserModelStore
from tests.support.bucket_life import Life, living
from tests.support.memory_s3 import MemoryClient, memory_store, nothing, once_at
from tests.support.whole_bucket import problems

USER = "alice"


class World:
    """A bucket in memory, the user that writes to it, and a place for backups."""

    def __init__(self, directory: Path) -> None:
        self.objects: dict[str, bytes] = {}
        self.store = memory_store(MemoryClient(self.objects))
        open_bucket(self.store)
        self.alice = Life(self.store, USER, directory / USER, seed=0)
        self.place: Place = memory_store()

    def back_up(self, before_read: Callable[[str], None] = nothing) -> BackupManifest:
        source = memory_store(MemoryClient(self.objects, before_read))
        return Backup(source, self.place, nothing).make()

    def restored(self) -> ObjectStore:
        """A new bucket with the backup at the place."""
        target = memory_store()
        Restore(self.place, target, nothing).run()
        open_bucket(target)
        return target


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_copy_of_a_bucket_at_rest_has_all_of_it(world: World) -> None:
    for _ in range(40):
        world.alice.act()
    world.alice.accept(world.alice.models()[0])
    world.back_up()
    copy = world.restored()
    assert problems(copy, [world.alice]) == []
    assert {key: copy.get(key).body for key in copy.list("")} == world.objects


class Turns:
    """Lets writers go on, some writes at a time, whenever the backup reads."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._turns = threading.Semaphore(0)
        self._is_over = threading.Event()

    def wait(self, key: str) -> None:
        if not self._is_over.is_set():
            self._turns.acquire()

    def give(self, key: str) -> None:
        if num_turns := self._random.choice((0, 0, 0, 1, 2, 5, 12)):
            self._turns.release(num_turns)

    def give_all(self) -> None:
        self._is_over.set()
        self._turns.release(1000)


@pytest.mark.parametrize("seed", range(16))
def test_copy_is_whole_whatever_is_written_meanwhile(world: World, tmp_path: Path, seed: int) -> None:
    turns = Turns(seed)
    gated = memory_store(MemoryClient(world.objects, before_write=turns.wait))
    users = [f"user{number}" for number in range(3)]
    before = [Life(world.store, user, tmp_path / "before" / user, seed) for user in users]
    during = [Life(gated, user, tmp_path / "during" / user, seed + 1000) for user in users]
    for life in before:
        for _ in range(6):
            life.act()
    with living(during, turns.give_all):
        manifest = world.back_up(turns.give)
    assert manifest.damaged == ()
    assert problems(world.restored(), [*before, *during]) == []


def test_training_that_ends_after_its_job_was_copied_is_not_repeated(world: World) -> None:
    world.alice.create()
    (model,) = world.alice.models()
    jobs = Jobs(world.store)
    record = world.alice.accept(model)

    def finish() -> None:
        running = record.model_copy(update={"status": JobStatus.RUNNING, "attempt": 1, "revision": 1})
        world.alice.complete(model, running)

    world.back_up(once_at("users/", finish))
    copy = world.restored()
    assert jobs.load(USER, record.id).status is JobStatus.SUCCEEDED
    assert problems(copy, [world.alice]) == []
    assert Jobs(copy).load(USER, record.id).revision == 1


def test_training_that_is_accepted_and_ends_meanwhile_is_there_with_its_revision(world: World) -> None:
    world.alice.create()
    (model,) = world.alice.models()
    world.back_up(once_at("users/", lambda: world.alice.train(model)))
    copy = world.restored()
    assert problems(copy, [world.alice]) == []
    (job,) = Jobs(copy).page(USER, None, 10)
    assert (job.status, job.revision) == (JobStatus.SUCCEEDED, 1)


def test_training_whose_model_was_copied_before_waits_again(world: World) -> None:
    world.alice.create()
    (model,) = world.alice.models()
    record = world.alice.accept(model)
    running = record.model_copy(update={"status": JobStatus.RUNNING, "attempt": 1, "revision": 1})
    reads: list[str] = []

    def hook(key: str) -> None:
        reads.append(key)
        if reads.count(f"jobs/{USER}/{record.id}/job.json") == 2:
            reads.clear()
            world.alice.complete(model, running)

    world.back_up(hook)
    copy = world.restored()
    assert problems(copy, [world.alice]) == []
    assert [job.id for job in Jobs(copy).active()] == [record.id]
    assert UserModelStore(copy).load(USER).models.models[0].latest_revision == 0


def test_model_that_is_deleted_meanwhile_is_left_out(world: World) -> None:
    for _ in range(2):
        world.alice.create()
    kept, deleted = world.alice.models()
    world.alice.train(deleted)
    prefix = f"models/{deleted.uid}/revisions/000001/manifest.json"
    manifest = world.back_up(once_at(prefix, lambda: world.alice.delete(deleted)))
    copy = world.restored()
    assert manifest.damaged == ()
    assert problems(copy, [world.alice]) == []
    assert UserModelStore(copy).load(USER).models.models == (kept,)
    assert copy.list(f"models/{deleted.uid}/") == []


def test_model_that_is_made_after_the_models_were_copied_can_be_made_again(world: World) -> None:
    world.alice.create()
    first = world.alice.models()[0].uid
    seen: list[str] = []

    def hook(key: str) -> None:
        seen.append(key)
        if seen.count("idempotency/") == 2:
            seen.clear()
            world.alice.create()

    world.back_up(hook)
    copy = world.restored()
    assert problems(copy, [world.alice]) == []
    found = [Reservation.model_validate_json(copy.get(key).body) for key in copy.list("idempotency/")]
    assert sorted(each.is_done for each in found) == [False, True]
    assert [model.uid for model in UserModelStore(copy).load(USER).models.models] == [first]


def test_key_that_is_revoked_meanwhile_is_left_out(world: World) -> None:
    keys = ApiKeys(world.store)
    for name in ("laptop", "phone"):
        keys.create(USER, name)
    (revoked,) = (key for key in keys.list_of(USER) if key.record.name == "laptop")
    world.back_up(once_at(f"keys/{revoked.hash}.json", lambda: keys.revoke_own(USER, revoked.record.id)))
    copy = world.restored()
    assert [key.record.name for key in ApiKeys(copy).list()] == ["phone"]
    assert problems(copy, [world.alice]) == []


def test_old_key_without_a_marker_is_copied(world: World) -> None:
    key = ApiKeys(world.store).create(USER, "old")
    world.store.delete_prefix("keys-of/")
    world.back_up()
    assert len(ApiKeys(world.restored()).list()) == 1
    assert key.startswith("tiger_")


def test_damaged_revisions_are_named_and_the_rest_is_copied(world: World) -> None:
    world.alice.create()
    for _ in range(3):
        world.alice.train(world.alice.models()[0])
    uid = world.alice.models()[0].uid
    revisions = Revisions(world.store)
    changed, lost, whole = (revisions.manifest(uid, revision) for revision in (1, 2, 3))
    assert changed is not None and lost is not None and whole is not None
    world.store.put(changed.files[1].key, b"other bytes")
    world.store.delete(lost.files[1].key)

    manifest = world.back_up()

    lost_key = f"models/{uid}/revisions/000002/manifest.json"
    assert set(manifest.damaged) == {changed.files[1].key, lost_key}
    copy = world.restored()
    assert Revisions(copy).manifest(uid, 3) == whole
    assert copy.list(f"models/{uid}/revisions/000002/") == []


class Dying(Exception):
    """This error takes the place of a process that ends."""


@pytest.mark.parametrize("num_writes", [1, 5, 30])
def test_interrupted_backup_goes_on_and_keeps_no_object_of_the_first_try(
    world: World, num_writes: int
) -> None:
    for _ in range(16):
        world.alice.act()
    placed: dict[str, bytes] = {}
    written: list[str] = []

    def die(key: str) -> None:
        written.append(key)
        if len(written) > num_writes:
            raise Dying

    world.place = memory_store(MemoryClient(placed, before_write=die))
    with pytest.raises(Dying):
        world.back_up()
    adapters = {key for key in placed if key.endswith(".safetensors") and "/optimizer" not in key}

    world.store.delete_prefix("usage/")
    again: list[str] = []
    world.place = memory_store(MemoryClient(placed, before_write=again.append))
    world.back_up()

    assert not adapters & set(again)
    copy = world.restored()
    assert problems(copy, [world.alice]) == []
    assert copy.list("usage/") == []
    assert not [key for key in placed if key.startswith(f"{OBJECTS}usage/")]


def test_place_with_a_backup_is_refused(world: World) -> None:
    world.back_up()
    with pytest.raises(BackupRefused, match="complete backup"):
        world.back_up()


def test_place_with_something_else_is_refused(world: World) -> None:
    world.place.put("thesis.txt", b"")
    with pytest.raises(BackupRefused, match="not empty"):
        world.back_up()
    assert world.place.list("") == ["thesis.txt"]


@pytest.mark.parametrize(
    ("layout", "error"), [(None, BackupRefused), (b'{"version": 99}', StorageUnfit), (b"{", StorageUnfit)]
)
def test_bucket_of_another_release_is_refused(
    world: World, layout: bytes | None, error: type[Exception]
) -> None:
    world.store.delete(LAYOUT_KEY)
    if layout is not None:
        world.store.put(LAYOUT_KEY, layout)
    with pytest.raises(error):
        world.back_up()
    assert world.place.list("") == []


def test_objects_of_no_known_kind_are_named_and_not_copied(world: World) -> None:
    world.store.put("photos/cat.png", b"")
    lines: list[str] = []
    Backup(world.store, world.place, lines.append).make()
    assert lines[-1].endswith("no kind that a backup has: photos/")
    assert world.restored().list("photos/") == []
