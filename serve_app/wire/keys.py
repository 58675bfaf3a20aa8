"""What goes over the wire about API keys."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field

from registry.keys import ListedKey, parse_expiry
from registry.records import KeyRecord, Timestamp
from serve_app.wire.base import Answer, Request


def _valid_name(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise ValueError("a name has printable characters, not only spaces")
    return name


def _valid_expiry(value: Any) -> datetime:
    if not isinstance(value, str) or len(value) > MAX_TIME_CHARACTERS:
        raise ValueError("give a time in ISO 8601, as a string")
    return parse_expiry(value)


MAX_TIME_CHARACTERS = 64
KeyName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_valid_name)]
Expiry = Annotated[datetime, BeforeValidator(_valid_expiry)]


class CreateKey(Request):
    """Another key of the caller."""

    name: KeyName = Field(description="what the key is for; several may have one name")
    expires: Expiry | None = Field(
        None,
        description="ISO 8601 in UTC, in the future; the key is refused from then on. Left out: "
        "never, or with the key that makes it",
    )


class Key(Answer):
    """A key without what makes it one: that is shown only when it is created."""

    id: str = Field(description="names the key; of no use to anyone else")
    name: str
    created: Timestamp
    expires: Timestamp | None = Field(description="null: never")
    last_used: Timestamp | None = Field(description="the hour in which it began; null: not yet")

    @classmethod
    def of(cls, record: KeyRecord, last_used: datetime | None, **more: Any) -> Self:
        described = record.model_dump(include={"id", "name", "created", "expires"})
        return cls(**described, last_used=last_used, **more)


class CreatedKey(Key):
    key: str = Field(description="the key itself; it cannot be shown again")


class OwnKey(Key):
    current: bool = Field(description="the one that this request was made with")

    @classmethod
    def of_listed(cls, listed: ListedKey, current_hash: str) -> Self:
        return cls.of(listed.record, listed.last_used, current=listed.hash == current_hash)


class RevokedKey(Answer):
    id: str
    message: str = "key has been revoked"
