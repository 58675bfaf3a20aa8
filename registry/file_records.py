"""The records of the files that users upload, as frozen pydantic models."""

import secrets
from enum import StrEnum

from pydantic import Field

from registry.records import Record, Timestamp


def generate_file_id() -> str:
    """A file's name in the API and in the bucket: 128 random bits, never reused."""
    return f"file-{secrets.token_hex(16)}"


class FilePurpose(StrEnum):
    FINE_TUNE = "fine-tune"
    FINE_TUNE_RESULTS = "fine-tune-results"
    """The purpose of files that the service itself makes."""


class FileFormat(StrEnum):
    """The kind of all lines of a training file."""

    CONVERSATIONS = "conversations"
    PREFERENCES = "preferences"


class FileCheck(Record):
    """The result of reading the lines of a training file. The file can be used if there are no errors."""

    format: FileFormat | None = Field(None, description="that of the first line; None: there is none")
    num_lines: int = Field(0, ge=0, description="lines that were read, with empty ones")
    num_records: int = Field(0, ge=0, description="lines with a conversation or a preference")
    errors: tuple[str, ...] = Field((), description="the first errors, each with the number of its line")


class FileRecord(Record):
    """A file. Its bytes are complete in the bucket before its record is in the list."""

    id: str
    filename: str = Field(description="the name that the client gave; no key of the bucket contains it")
    purpose: FilePurpose
    size_bytes: int = Field(ge=1)
    sha256: str
    created: Timestamp
    check: FileCheck | None = Field(None, description="None: the service made the file")


class UserFiles(Record):
    """`files/<user>/files.json`: the files of one user, oldest first."""

    files: tuple[FileRecord, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)
