"""The base of all records of the bucket, and fields that an earlier release does not have."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def added_later(default: T, description: str | None = None, **bounds: Any) -> T:
    """A field that an earlier release does not have. It is written only if its value is not the default.

    A record that does not use the field is therefore the same text as before. Its digest stays the same, and
    the earlier release can read it.
    """
    field: T = Field(
        default, description=description, exclude_if=lambda value: bool(value == default), **bounds
    )
    return field
