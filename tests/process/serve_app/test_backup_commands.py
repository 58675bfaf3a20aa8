"""`tiger backup` and `tiger restore` with the storage of one machine, which is not running."""

from pathlib import Path

import pytest

from registry.backup.backup import Backup
from registry.backup.directory import DirectoryPlace
from registry.layout import open_bucket
from serve_app.instance.instance import Instance
from tests.support.bucket_life import Life
from tests.support.commands import tiger
from tests.support.memory_s3 import memory_store, nothing


@pytest.fixture
def first_backup(tmp_path: Path) -> Path:
    """A backup from elsewhere."""
    store = memory_store()
    open_bucket(store)
    life = Life(store, "alice", tmp_path / "life", seed=0)
    for _ in range(3):
        life.act()
    Backup(store, DirectoryPlace(tmp_path / "first"), nothing).make()
    return tmp_path / "first"


def objects_of(place: Path) -> dict[str, bytes]:
    files = DirectoryPlace(place)
    return {key: b"".join(files.read_chunks(key)) for key in files.list("objects/")}


def test_new_home_takes_a_backup_and_gives_it_back(tmp_path: Path, first_backup: Path) -> None:
    home = tmp_path / "home"
    done = tiger("restore", str(first_backup), "--home", str(home))
    assert done.exit_code == 0, done.stderr
    assert not Instance(home).storage.is_running

    again = tiger("backup", str(tmp_path / "second"), "--home", str(home))
    assert "no layout" not in again.stderr
    assert again.exit_code == 0, again.stderr
    assert not Instance(home).storage.is_running
    assert objects_of(tmp_path / "second") == objects_of(first_backup)
