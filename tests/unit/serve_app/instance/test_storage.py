"""The storage that the settings of an instance name."""

from pathlib import Path

import pytest

from registry.layout import UPGRADES, BucketLayout, Layout
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.instance.processes import InstanceError
from serve_app.instance.state import StateFile
from serve_app.instance.storage import InstanceStorage


@pytest.fixture
def storage(storage_settings: StorageSettings, tmp_path: Path) -> InstanceStorage:
    return InstanceStorage(tmp_path, storage_settings, StateFile(tmp_path / "instance.json"))


def ensure(storage: InstanceStorage) -> list[str]:
    """Ensure that the storage works, as `tiger up` does; returns the reported lines."""
    lines: list[str] = []
    storage.ensure(lines.append, may_move=False)
    return lines


def test_new_bucket_gets_the_layout_of_this_release(storage: InstanceStorage, store: ObjectStore) -> None:
    assert "as the settings say" in ensure(storage)[0]
    assert BucketLayout(store).read().layout == Layout(version=len(UPGRADES))


@pytest.mark.parametrize(
    ("layout", "reason"),
    [(Layout(version=99), "layout 99"), (Layout(version=1, restoring="a backup"), "tiger restore")],
)
def test_bucket_that_must_not_be_opened_is_refused_with_the_reason(
    storage: InstanceStorage, store: ObjectStore, layout: Layout, reason: str
) -> None:
    BucketLayout(store).save(layout, None)
    with pytest.raises(InstanceError, match=reason):
        ensure(storage)
    assert BucketLayout(store).read().layout == layout


def test_bucket_that_is_being_restored_is_started_as_it_is(
    storage: InstanceStorage, store: ObjectStore
) -> None:
    layout = Layout(version=1, restoring="a backup")
    BucketLayout(store).save(layout, None)
    with storage.started(lambda line: None) as found:
        assert BucketLayout(found).read().layout == layout
