"""The manifest of a backup, which is written last. Without it there is no backup.

backup.json      BackupManifest: every object, its size and its digest
begun            exists while the backup is being made; a repetition goes on there
objects/<key>    the objects, under their keys in the bucket
"""

from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator

from registry.backup.errors import BackupDamaged, BackupMissing
from registry.backup.place import Digest, Place, digest_of, put_object
from registry.layout import KINDS
from registry.records import Record, Timestamp
from registry.store import ObjectMissing

MANIFEST_KEY = "backup.json"
BEGUN_KEY = "begun"
OBJECTS = "objects/"


class BackupObject(Digest):
    key: str

    @field_validator("key")
    @classmethod
    def _is_of_a_kind(cls, key: str) -> str:
        if not key.startswith(KINDS) or ".." in key.split("/"):
            raise ValueError("this is no key of a bucket of tiger")
        return key


class BackupManifest(Record):
    """`backup.json`: the content of a backup."""

    format: Literal[1] = 1
    layout: int
    begun: Timestamp
    finished: Timestamp
    objects: tuple[BackupObject, ...]
    damaged: tuple[str, ...] = Field(
        (), description="keys that the bucket had lost, or whose bytes were not those that were published"
    )

    @property
    def id(self) -> str:
        return digest_of([self.body()]).sha256

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.objects)

    def body(self) -> bytes:
        return self.model_dump_json().encode()

    def write(self, place: Place) -> None:
        put_object(place, MANIFEST_KEY, self.body())

    @classmethod
    def read(cls, place: Place) -> Self:
        """Raises: BackupMissing; BackupDamaged: it is damaged, or a later release wrote it."""
        try:
            body = b"".join(place.read_chunks(MANIFEST_KEY))
        except ObjectMissing:
            raise BackupMissing("there is no complete backup at this place") from None
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise BackupDamaged(f"{MANIFEST_KEY} cannot be read by this release") from error
