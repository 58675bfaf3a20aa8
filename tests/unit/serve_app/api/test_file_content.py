"""A file is downloaded as it was uploaded. A damaged one never arrives whole, and no page is shown."""

import hashlib
from contextlib import ExitStack

import pytest

from registry.file_records import FilePurpose, FileRecord
from registry.records import utc_now
from serve_app.api.file_content import FileContent, checked
from tests.support.memory_s3 import memory_store

CHUNKS = [b"one", b"two", b"three"]


def record(content: bytes, filename: str = "a.jsonl") -> FileRecord:
    return FileRecord(
        id="file-1",
        filename=filename,
        purpose=FilePurpose.FINE_TUNE,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created=utc_now(),
    )


def test_whole_file_arrives() -> None:
    assert b"".join(checked(iter(CHUNKS), record(b"".join(CHUNKS)))) == b"".join(CHUNKS)


def test_damaged_file_never_arrives_whole() -> None:
    arrived = []
    with pytest.raises(ValueError, match="damaged"):
        for chunk in checked(iter(CHUNKS), record(b"other")):
            arrived.append(chunk)
    assert b"".join(arrived) == b"".join(CHUNKS[:-1])


@pytest.mark.parametrize(
    ("filename", "sent"), [('a"\r\nX: 1', "a%22%0D%0AX%3A%201"), ("\u4e2d.html", "%E4%B8%AD.html")]
)
def test_name_of_a_file_makes_no_header_and_its_bytes_are_no_page(filename: str, sent: str) -> None:
    answer = FileContent(memory_store(), "alice", record(b"x", filename), ExitStack())
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{sent}"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == "1"
