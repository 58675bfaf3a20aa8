"""The output and the exit codes of `tiger backup` and `tiger restore`, for an operator of a cluster."""

from pathlib import Path

import pytest

from registry.backup.manifest import OBJECTS
from registry.keys import ApiKeys
from registry.layout import open_bucket
from registry.store import ObjectStore
from tests.support.bucket_life import Life
from tests.support.commands import tiger

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def bucket(cluster: ObjectStore, tmp_path: Path) -> ObjectStore:
    """The bucket of the cluster, with a key and a trained model."""
    open_bucket(cluster)
    life = Life(cluster, "alice", tmp_path / "life", seed=0)
    life.create()
    life.train(life.models()[0])
    ApiKeys(cluster).create("alice", "laptop")
    return cluster


def content(store: ObjectStore) -> dict[str, bytes]:
    return {key: store.get(key).body for key in store.list("")}


def test_backup_is_made_checked_and_restored(bucket: ObjectStore, tmp_path: Path) -> None:
    before = content(bucket)
    place = str(tmp_path / "backup")
    made = tiger("backup", place)
    assert made.exit_code == 0, made.stderr
    assert "copying models" in made.stdout and "complete: " in made.stdout

    checked = tiger("restore", place, "--check")
    assert checked.exit_code == 0 and "whole: " in checked.stdout

    ApiKeys(bucket).create("bob", "of after the backup")
    refused = tiger("restore", place)
    assert refused.exit_code == 1 and "--replace" in refused.stderr
    done = tiger("restore", place, "--replace")
    assert done.exit_code == 0, done.stderr
    assert content(bucket) == before

    again = tiger("backup", place)
    assert again.exit_code == 1 and "another place" in again.stderr


def test_place_in_a_bucket_is_named_by_options_or_variables(
    bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch, storage_credentials: Path
) -> None:
    # The credentials of the place are not those of the bucket: these come from the usual places of AWS.
    settings = bucket.settings
    options = ("--endpoint-url", str(settings.endpoint_url), "--credentials", str(storage_credentials))
    place = f"s3://copies/{settings.prefix}nightly"
    made = tiger("backup", place, *options)
    assert made.exit_code == 0, made.stderr
    monkeypatch.setenv("TIGER_BACKUP_ENDPOINT_URL", str(settings.endpoint_url))
    monkeypatch.setenv("TIGER_BACKUP_CREDENTIALS", str(storage_credentials))
    checked = tiger("restore", place, "--check")
    assert checked.exit_code == 0, checked.stderr
    copies = ObjectStore(settings.model_copy(update={"bucket": "copies"}))
    assert copies.list("nightly/backup.json")


def test_damage_has_an_exit_code_of_its_own(bucket: ObjectStore, tmp_path: Path) -> None:
    place = tmp_path / "backup"
    assert tiger("backup", str(place)).exit_code == 0
    weights = next((place / OBJECTS / "models").rglob("adapter_model.safetensors"))
    weights.write_bytes(b"changed")
    before = content(bucket)
    for command in (["restore", str(place), "--check"], ["restore", str(place), "--replace"]):
        found = tiger(*command)
        assert found.exit_code == 3 and "missing or changed" in found.stderr
    assert content(bucket) == before


def test_bucket_that_has_lost_bytes_is_copied_and_the_loss_is_told(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    lost = next(key for key in bucket.list("models/") if key.endswith("adapter_model.safetensors"))
    bucket.delete(lost)
    made = tiger("backup", str(tmp_path / "backup"))
    assert made.exit_code == 3
    assert "manifest.json" in made.stderr and "complete: " in made.stdout
    assert tiger("restore", str(tmp_path / "backup"), "--check").exit_code == 3


def test_place_without_a_backup_is_said(cluster: ObjectStore, tmp_path: Path) -> None:
    found = tiger("restore", str(tmp_path))
    assert found.exit_code == 1 and "no complete backup" in found.stderr


@pytest.mark.parametrize("place", ["s3://", "s3:///prefix"])
def test_place_without_a_bucket_is_refused(cluster: ObjectStore, place: str) -> None:
    found = tiger("backup", place)
    assert found.exit_code == 1 and "s3://BUCKET/PREFIX" in found.stderr


def test_place_that_cannot_be_reached_is_named(cluster: ObjectStore) -> None:
    place = "s3://no-such-bucket/nightly"
    found = tiger("restore", place, "--endpoint-url", str(cluster.settings.endpoint_url))
    assert found.exit_code == 1 and f"{place} cannot be reached" in found.stderr


@pytest.mark.parametrize("text", [None, "[other]\naws_access_key_id = mine\n", "no credentials"])
def test_credentials_that_cannot_be_read_are_named_and_not_shown(
    cluster: ObjectStore, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "credentials"
    if text is not None:
        path.write_text(text)
    found = tiger("backup", "s3://copies", "--credentials", str(path))
    assert found.exit_code == 1 and "--credentials" in found.stderr
    assert "mine" not in found.stderr


def test_home_that_was_never_up_has_nothing_to_back_up(tmp_path: Path) -> None:
    found = tiger("backup", str(tmp_path / "backup"))
    assert found.exit_code == 1 and "never up" in found.stderr
    assert not (tmp_path / "backup").exists() and not (tmp_path / "home").exists()
