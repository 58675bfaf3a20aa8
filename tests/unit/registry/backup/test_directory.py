"""A directory as the place of a backup."""

import stat
from pathlib import Path

import pytest

from registry.backup.directory import DirectoryPlace
from registry.store import ObjectMissing


def test_objects_are_files_that_only_their_user_reads(tmp_path: Path) -> None:
    place = DirectoryPlace(tmp_path / "new" / "backup")
    assert place.list("") == []
    place.put("a/b", b"body")
    (tmp_path / "file").write_bytes(b"large")
    place.upload_file(tmp_path / "file", "a/c")
    assert place.list("") == ["a/b", "a/c"] and place.list("a/c") == ["a/c"]
    assert b"".join(place.read_chunks("a/c", 2)) == b"large"
    assert stat.S_IMODE((tmp_path / "new" / "backup").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "backup" / "a" / "b").stat().st_mode) == 0o600
    place.delete_many(["a/b", "a/none"])
    assert place.list("") == ["a/c"]
    with pytest.raises(ObjectMissing):
        list(place.read_chunks("a/b"))


def test_file_whose_writing_fails_does_not_appear(tmp_path: Path) -> None:
    place = DirectoryPlace(tmp_path / "backup")
    place.put("a", b"before")
    with pytest.raises(TypeError):
        place.put("a", "no bytes")  # type: ignore[arg-type]
    assert place.list("") == ["a"]
    assert b"".join(place.read_chunks("a")) == b"before"


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside", "a/../../outside"])
def test_key_that_leads_out_of_the_directory_is_refused(tmp_path: Path, key: str) -> None:
    place = DirectoryPlace(tmp_path / "backup")
    with pytest.raises(ValueError, match="no key"):
        place.put(key, b"")
    with pytest.raises(ValueError, match="no key"):
        list(place.read_chunks(key))
    assert list(tmp_path.rglob("outside")) == []
