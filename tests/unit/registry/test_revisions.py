import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from registry.errors import RevisionNotFound
from registry.records import Manifest
from registry.revisions import DigestMismatch, Revisions
from registry.store import ObjectStore, WriteConflict

UID = "a" * 32


@pytest.fixture
def revisions(store: ObjectStore) -> Revisions:
    return Revisions(store)


def adapter(directory: Path, weights: bytes = b"weights") -> Path:
    directory.mkdir(parents=True)
    (directory / "adapter_config.json").write_text("{}")
    (directory / "adapter_model.safetensors").write_bytes(weights)
    (directory / "README.md").write_text("not published")
    return directory


def publish(revisions: Revisions, directory: Path, revision: int = 1, job: str | None = "job-1") -> Manifest:
    return revisions.publish(
        UID,
        directory,
        revision=revision,
        parent_revision=revision - 1,
        job=job,
        base_model="base",
        metrics={"loss": 0.5},
    )


def test_publish_and_fetch(revisions: Revisions, tmp_path: Path) -> None:
    published = publish(revisions, adapter(tmp_path / "made"))
    target = tmp_path / "cache" / "one"
    target.parent.mkdir()
    assert revisions.fetch(UID, 1, target) == published == revisions.manifest(UID, 1)
    assert {path.name for path in target.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert (target / "adapter_model.safetensors").read_bytes() == b"weights"
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}
    assert [path.name for path in target.parent.iterdir()] == ["one"]


def test_list_is_newest_first_and_shows_only_whole_revisions(
    revisions: Revisions, store: ObjectStore, tmp_path: Path
) -> None:
    directory = adapter(tmp_path / "made")
    for revision in (1, 2, 10):
        publish(revisions, directory, revision)
    store.put(f"models/{UID}/revisions/000011/attempt/adapter_model.safetensors", b"half")
    assert [manifest.revision for manifest in revisions.list(UID)] == [10, 2, 1]
    assert revisions.manifest(UID, 11) is None
    with pytest.raises(RevisionNotFound):
        revisions.fetch(UID, 11, tmp_path / "fetched")


def test_publish_again_for_the_same_job_changes_nothing(revisions: Revisions, tmp_path: Path) -> None:
    first = publish(revisions, adapter(tmp_path / "first"))
    assert publish(revisions, adapter(tmp_path / "second", b"other")) == first
    with pytest.raises(WriteConflict):
        publish(revisions, adapter(tmp_path / "third", b"other"), job="job-2")


class Zombie(ObjectStore):
    """A store that pauses before it writes the manifest. Meanwhile another worker publishes the revision."""

    def __init__(self, store: ObjectStore, meanwhile: Any) -> None:
        super().__init__(store.settings)
        self._meanwhile = meanwhile

    def create(self, key: str, body: bytes) -> str:
        self._meanwhile()
        return super().create(key, body)


@pytest.mark.parametrize("job", ["job-1", "job-2"])
def test_zombie_publish_changes_nothing(
    revisions: Revisions, store: ObjectStore, tmp_path: Path, job: str
) -> None:
    good, late = adapter(tmp_path / "good", b"good"), adapter(tmp_path / "late", b"late")
    zombie = Revisions(Zombie(store, lambda: publish(revisions, good)))
    if job == "job-1":
        assert publish(zombie, late, job=job) == revisions.manifest(UID, 1)
    else:
        with pytest.raises(WriteConflict):
            publish(zombie, late, job=job)
    revisions.fetch(UID, 1, tmp_path / "fetched")
    assert (tmp_path / "fetched" / "adapter_model.safetensors").read_bytes() == b"good"
    assert len(store.list(f"models/{UID}/")) == 3, "the losing attempt left files"


def test_racing_publishers_have_one_winner(revisions: Revisions, store: ObjectStore, tmp_path: Path) -> None:
    directories = [adapter(tmp_path / str(number), b"%d" % number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        manifests = list(pool.map(lambda directory: publish(revisions, directory), directories))
    assert len({manifest.sha256 for manifest in manifests}) == 1
    revisions.fetch(UID, 1, tmp_path / "fetched")
    assert len(store.list(f"models/{UID}/")) == 3


def test_publish_sweeps_what_a_dead_attempt_left(
    revisions: Revisions, store: ObjectStore, tmp_path: Path
) -> None:
    store.put(f"models/{UID}/revisions/000001/dead/adapter_model.safetensors", b"half")
    publish(revisions, adapter(tmp_path / "made"))
    assert not [key for key in store.list(f"models/{UID}/") if "/dead/" in key]


@pytest.mark.parametrize("body", [b"weightz", b"longer than before", b""])
def test_fetch_refuses_changed_bytes(
    revisions: Revisions, store: ObjectStore, tmp_path: Path, body: bytes
) -> None:
    manifest = publish(revisions, adapter(tmp_path / "made"))
    store.put(next(file.key for file in manifest.files if file.name.endswith(".safetensors")), body)
    with pytest.raises(DigestMismatch):
        revisions.fetch(UID, 1, tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("name", ["../escaped.safetensors", "/etc/x.safetensors", "run.py", ".safetensors"])
def test_fetch_refuses_file_names_that_are_not_ours(
    revisions: Revisions, store: ObjectStore, tmp_path: Path, name: str
) -> None:
    manifest = publish(revisions, adapter(tmp_path / "made"))
    files = tuple(file.model_copy(update={"name": name}) for file in manifest.files)
    forged = manifest.model_copy(update={"files": files})
    store.put(f"models/{UID}/revisions/000001/manifest.json", forged.model_dump_json().encode())
    with pytest.raises(DigestMismatch):
        revisions.fetch(UID, 1, tmp_path / "cache" / "one")


def test_fetch_to_a_directory_that_is_there(revisions: Revisions, tmp_path: Path) -> None:
    publish(revisions, adapter(tmp_path / "made"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: revisions.fetch(UID, 1, tmp_path / "cache"), range(4)))
    (tmp_path / "cache" / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DigestMismatch):
        revisions.fetch(UID, 1, tmp_path / "cache")
    assert {path.name for path in tmp_path.iterdir()} == {"made", "cache"}


def test_publish_wants_an_adapter(revisions: Revisions, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError):
        publish(revisions, tmp_path)


def test_copy_is_independent_of_its_source(revisions: Revisions, tmp_path: Path) -> None:
    source = publish(revisions, adapter(tmp_path / "made"))
    copied = revisions.copy(UID, 1, "b" * 32)
    assert (copied.revision, copied.parent_revision, copied.job) == (0, None, None)
    assert copied.sha256 == source.sha256
    assert revisions.copy(UID, 1, "b" * 32) == copied
    revisions.delete_model(UID)
    assert revisions.fetch("b" * 32, 0, tmp_path / "fetched") == copied
    with pytest.raises(RevisionNotFound):
        revisions.copy(UID, 1, "c" * 32)


def test_delete_model_leaves_nothing(revisions: Revisions, store: ObjectStore, tmp_path: Path) -> None:
    publish(revisions, adapter(tmp_path / "made"))
    store.put(f"models/{UID}0/other", b"")
    revisions.delete_model(UID)
    assert store.list("models/") == [f"models/{UID}0/other"]
    assert revisions.list(UID) == []
    with pytest.raises(ValueError):
        revisions.delete_model("")
