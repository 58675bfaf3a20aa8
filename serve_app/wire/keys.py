"""Requests and answers of `/v1/keys`."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field

from registry.keys import ListedKey, parse_expiry
from registry.records import KeyRecord, Timestamp
from serve_app.wire.base import Answer, Request


def _valid_name(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise ValueError("a name must consist of printable characters, not only of spaces")
    return name


def _valid_expiry(value: Any) -> datetime:
    if not isinstance(value, str) or len(value) > MAX_TIME_CHARACTERS:
        raise ValueError("give a time in ISO 8601, as a string")
    return parse_expiry(value)


MAX_TIME_CHARACTERS = 64
KeyName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_valid_name)]
Expiry = Annotated[datetime, BeforeValidator(_valid_expiry)]


class CreateKey(Request):
    """A request for another key of the caller."""

    name: KeyName = Field(description="purpose of the key; several keys may have the same name")
    expires: Expiry | None = Field(
        None,
        description="future time from which the key is refused, ISO 8601 in UTC; null: the key expires with "
        "the key of this request, or never",
    )


class Key(Answer):
    """The description of a key. The key itself is shown only when it is created."""

    id: str = Field(description="name of the key in this API; it gives no access")
    name: str
    created: Timestamp
    expires: Timestamp | None = Field(description="time from which the key is refused; null: never")
    last_used: Timestamp | None = Field(description="last use, rounded down to the hour; null: not used yet")

    @classmethod
    def of(cls, record: KeyRecord, last_used: datetime | None, **more: Any) -> Self:
        described = record.model_dump(include={"id", "name", "created", "expires"})
        return cls(**described, last_used=last_used, **more)


class CreatedKey(Key):
    key: str = Field(description="the key itself; it cannot be shown again")


class OwnKey(Key):
    current: bool = Field(description="true for the key of this request")

    @classmethod
    def of_listed(cls, listed: ListedKey, current_hash: str) -> Self:
        return cls.of(listed.record, listed.last_used, current=listed.hash == current_hash)


class RevokedKey(Answer):
    id: str
    message: str = "key has been revoked"
