"""Answers of `/openai/v1/files`, in OpenAI's form, and the form of an upload."""

from typing import Any, Literal, Self

from pydantic import Field

from registry.file_records import FilePurpose, FileRecord
from serve_app.wire.base import Answer

MAX_FILENAME_CHARACTERS = 255
EXAMPLE_LINE = """{"messages": [{"role": "user", "content": "Name a fruit."}, \
{"role": "assistant", "content": "Mango."}]}
"""
UPLOAD_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "purpose": {
                        "type": "string",
                        "const": FilePurpose.FINE_TUNE.value,
                        "description": "use of the file; other purposes are refused",
                    },
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "the file, with its name; a line of JSON for each example",
                    },
                },
                "required": ["purpose", "file"],
                "additionalProperties": False,
            },
            "examples": {
                "a conversation": {"value": {"purpose": FilePurpose.FINE_TUNE.value, "file": EXAMPLE_LINE}}
            },
        }
    },
}
"""The body of an upload for the OpenAPI document. api.upload_form reads it, and not FastAPI."""


class FileObject(Answer):
    id: str
    object: Literal["file"] = "file"
    bytes: int = Field(ge=1, description="size of the file")
    created_at: int = Field(description="seconds since 1970, UTC")
    filename: str = Field(description="name that the upload gave")
    purpose: FilePurpose = Field(description="`fine-tune`, or `fine-tune-results` for a file of the service")
    status: Literal["processed", "error"] = Field(description="`error`: lines of the file cannot be used")
    status_details: str | None = Field(description="the first errors, with the numbers of their lines")
    expires_at: int | None = Field(None, description="null: a file stays until it is deleted")

    @classmethod
    def of(cls, record: FileRecord) -> Self:
        errors = record.check.errors if record.check is not None else ()
        return cls(
            id=record.id,
            bytes=record.size_bytes,
            created_at=int(record.created.timestamp()),
            filename=record.filename,
            purpose=record.purpose,
            status="error" if errors else "processed",
            status_details="; ".join(errors) or None,
        )


class FileList(Answer):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None = Field(description="id of the first file on this page")
    last_id: str | None = Field(description="id of the last file on this page, the `after` of the next one")
    has_more: bool = Field(description="true: there is another page")

    @classmethod
    def of(cls, page: list[FileRecord], has_more: bool) -> Self:
        return cls(
            data=[FileObject.of(record) for record in page],
            first_id=page[0].id if page else None,
            last_id=page[-1].id if page else None,
            has_more=has_more,
        )


class DeletedFile(Answer):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = Field(True, description="the file is deleted")
