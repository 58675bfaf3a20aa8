"""The storage of an instance on a full disk. A program that answers nothing stands in for SeaweedFS."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.settings import StorageSettings
from serve_app.instance.processes import InstanceError, identify
from serve_app.instance.state import STATE_FILE, StateFile
from serve_app.instance.storage import MIN_FREE_BYTES, InstanceStorage
from tests.support.storage import free_port

CREDENTIALS = "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"


def quiet(line: str) -> None:
    """A report that nobody reads."""


def storage_with(home: Path, free_bytes: int, settings: StorageSettings | None = None) -> InstanceStorage:
    remembered = StateFile(home / STATE_FILE)
    return InstanceStorage(home, settings or StorageSettings(), remembered, lambda directory: free_bytes)


@pytest.fixture
def running(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that the home in `tmp_path` knows as its storage."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    StateFile(tmp_path / STATE_FILE).update(storage=identify(process), storage_port=free_port())
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "credentials").write_text(CREDENTIALS)
    yield process
    process.kill()
    process.wait()


def test_running_storage_is_left_alone_when_its_disk_is_full(
    tmp_path: Path, running: "subprocess.Popen[bytes]"
) -> None:
    """It still answers what only reads. A new one could not even write its certificate."""
    storage = storage_with(tmp_path, MIN_FREE_BYTES - 1)
    with pytest.raises(
        InstanceError, match=r"fewer than 64 MiB are free on the disk of .*storage: make room"
    ):
        storage.ensure(quiet, may_move=True)
    assert running.poll() is None and storage.is_running


def test_state_says_that_the_disk_is_full(tmp_path: Path, running: "subprocess.Popen[bytes]") -> None:
    assert storage_with(tmp_path, MIN_FREE_BYTES - 1).state.endswith(", but its disk is full")
    assert storage_with(tmp_path, MIN_FREE_BYTES).state.startswith("running at http://127.0.0.1:")
    assert "full" not in storage_with(tmp_path, MIN_FREE_BYTES).state


def test_disk_of_a_storage_elsewhere_is_not_looked_at(tmp_path: Path) -> None:
    elsewhere = StorageSettings(endpoint_url="http://storage.example.com")
    assert storage_with(tmp_path, 0, elsewhere).state == "running at http://storage.example.com"
