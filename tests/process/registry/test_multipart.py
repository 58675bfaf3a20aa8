"""Objects whose size is not known at their beginning, on a real object store."""

import secrets
from datetime import timedelta

import pytest

from registry.client import build_client
from registry.errors import Unavailable
from registry.file_lists import FileLimits, FileLists, content_key
from registry.file_records import FilePurpose, FileRecord
from registry.file_uploads import FileUpload
from registry.multipart import MIN_PART_BYTES
from registry.records import utc_now
from registry.store import ObjectMissing, ObjectStore
from registry.unfinished_files import UnfinishedFiles

USER = "alice"


def open_uploads(store: ObjectStore) -> list[str]:
    """The keys of the multipart uploads that have not ended."""
    client = build_client(store.settings)
    found = client.list_multipart_uploads(Bucket=store.settings.bucket, Prefix=store.settings.prefix)
    return [upload["Key"] for upload in found.get("Uploads", [])]


def test_object_appears_whole_at_the_end(store: ObjectStore) -> None:
    parts = [secrets.token_bytes(MIN_PART_BYTES), secrets.token_bytes(MIN_PART_BYTES), b"last"]
    upload = store.begin_upload("key")
    for part in parts:
        upload.write(part)
        with pytest.raises(ObjectMissing):
            store.get("key")
        assert store.list("") == []
    upload.complete()
    assert b"".join(store.read_chunks("key")) == b"".join(parts)
    assert store.list("") == ["key"]


def test_nothing_of_an_aborted_upload_stays_and_it_may_be_aborted_again(store: ObjectStore) -> None:
    upload = store.begin_upload("key")
    upload.write(b"part")
    store.upload("key", upload.id).abort()
    assert open_uploads(store) == []
    upload.abort()
    with pytest.raises(Unavailable):
        upload.complete()
    assert store.list("") == []


def test_dead_upload_is_swept_and_a_listed_file_stays(store: ObjectStore) -> None:
    kept, dead = (FileUpload(store, USER, utc_now()) for _ in range(2))
    for upload in (kept, dead):
        upload.write(secrets.token_bytes(MIN_PART_BYTES))
    content = kept.finish(b"last")
    record = FileRecord(
        id=kept.file_id,
        filename="a",
        purpose=FilePurpose.FINE_TUNE,
        created=utc_now(),
        **content.model_dump(),
    )
    FileLists(store).add(USER, record, FileLimits(1, content.size_bytes))
    assert open_uploads(store) == [store.settings.prefix + content_key(USER, dead.file_id)]
    UnfinishedFiles(store, lambda: utc_now() + timedelta(seconds=1)).sweep()
    assert open_uploads(store) == []
    assert store.list("files") == sorted([f"files/{USER}/files.json", content_key(USER, kept.file_id)])
    store.copy(content_key(USER, record.id), "copy")
    assert sum(map(len, store.read_chunks("copy"))) == record.size_bytes
