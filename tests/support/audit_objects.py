"""An audit log whose objects are in memory. A test can take its storage away, or let a write wait."""

import threading
from collections.abc import Iterable
from datetime import UTC, datetime

from registry.audit import AuditLog, Entry
from registry.errors import UNREACHABLE, Unavailable
from registry.store import StoredObject, WriteConflict

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


class AuditObjects:
    """Objects that can be created and read. `refused` is the end of the keys that cannot be written."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.refused: str | None = None
        self.may_write = threading.Event()
        self.may_write.set()

    def create(self, key: str, body: bytes) -> str:
        self.may_write.wait(30)
        if self.refused is not None and key.endswith(self.refused):
            raise Unavailable(UNREACHABLE)
        if key in self.bodies:
            raise WriteConflict(key)
        self.bodies[key] = body
        return "etag"

    def list(self, prefix: str, start_after: str = "") -> tuple[str, ...]:
        return tuple(sorted(key for key in self.bodies if key.startswith(prefix) and key > start_after))

    def get_many(self, keys: Iterable[str]) -> tuple[StoredObject | None, ...]:
        return tuple(StoredObject(self.bodies[key], "etag") if key in self.bodies else None for key in keys)


def entries_of(objects: AuditObjects) -> list[Entry]:
    return list(AuditLog(objects).entries(BEGINNING))
