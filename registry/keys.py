"""API keys. The user of a request is found by the hash of its key. The key itself is stored nowhere.

    keys/<sha256 of key>.json              KeyRecord: while this exists, and until it expires, the key works
    keys-of/<user>/<id>/<sha256 of key>    marker: finds a user's keys; its body is the hour of the last use

The marker is written before the record and deleted after it. A use writes only the marker. So a process that
dies between two writes leaves at most a marker without a record. No list shows such a marker, it admits no
request, and a second revocation of its id deletes it. A key that works always has a marker, except an old key
from the time before markers: `mark_unmarked` and every use give it one.
"""

import builtins
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from registry.errors import NO_SUCH_KEY, KeyNotFound
from registry.records import KeyRecord, utc_now
from registry.store import ObjectMissing, ObjectStore, WriteConflict

PREFIX = "keys/"
MARKERS = "keys-of/"
HASH_PATTERN = re.compile(r"[0-9a-f]{64}")
HASH_PREFIX_PATTERN = re.compile(r"[0-9a-f]{8,64}")
DERIVED_ID_HASH_CHARACTERS = 12
ID_PATTERN = re.compile(r"key-(?:[0-9a-f]{24}|[0-9a-f]{12})")


class KeyNotIdentified(LookupError):
    """No key, or more than one, has the given id or hash prefix. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key in a list. `last_used` is the beginning of the hour of its last use, None if never used."""

    hash: str
    record: KeyRecord
    last_used: datetime | None


def generate_key() -> str:
    return f"tiger_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def hour_of(time: datetime) -> datetime:
    """The beginning of the hour of `time`. A last use is known to the hour."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def parse_expiry(text: str) -> datetime:
    """The time at which a key expires, from text such as `2030-01-31T12:00:00Z`.

    Raises: ValueError, whose message says what is wrong.
    """
    try:
        expires = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("give a time in ISO 8601, for example 2030-01-31T12:00:00Z") from None
    if expires.utcoffset() != timedelta(0):
        raise ValueError("give the time in UTC, with a Z at its end")
    if expires <= utc_now():
        raise ValueError("the time must be in the future")
    return expires.astimezone(UTC)


class ApiKeys:
    """The keys of all users. A key is named by its id; the operator may also use a prefix of its hash."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(self, user: str, name: str, expires: datetime | None = None) -> str:
        """Make a key and return it. It cannot be read again later.

        Raises:
            pydantic.ValidationError: `user` is not a user name.
        """
        key = generate_key()
        self.add(hash_key(key), user, name, expires)
        return key

    def add(self, key_hash: str, user: str, name: str, expires: datetime | None = None) -> KeyRecord:
        """Admit requests with the key of this hash as requests of `user` from now on.

        Raises:
            pydantic.ValidationError: `user` is not a user name.
        """
        key_id = f"key-{secrets.token_hex(12)}"
        record = KeyRecord(id=key_id, user=user, name=name, created=utc_now(), expires=expires)
        self._store.put(_marker(key_hash, record), b"")
        self._store.create(_object_key(key_hash), record.model_dump_json().encode())
        return record

    def lookup(self, key_hash: str) -> KeyRecord | None:
        """The record of a key, also of an expired one; None if there is no such key."""
        if not HASH_PATTERN.fullmatch(key_hash):
            return None
        try:
            return _record(key_hash, self._store.get(_object_key(key_hash)).body)
        except ObjectMissing:
            return None

    def mark_used(self, key_hash: str, record: KeyRecord, hour: datetime) -> None:
        """Write the hour of the last use. If the key is revoked meanwhile, no marker of it stays."""
        self._store.put(_marker(key_hash, record), hour.isoformat().encode())
        self._delete_if_revoked(key_hash, record)

    def mark_unmarked(self) -> None:
        """Write markers for the keys that have none. Reads the names of all keys, but only those records."""
        marked = {_hash_of_marker(marker) for marker in self._store.list(MARKERS)}
        for key_hash in map(_hash_of, self._store.list(PREFIX)):
            if key_hash in marked or (record := self.lookup(key_hash)) is None:
                continue
            with suppress(WriteConflict):
                self._store.create(_marker(key_hash, record), b"")
                self._delete_if_revoked(key_hash, record)

    def is_empty(self) -> bool:
        """Return True if no user has a key."""
        return not self._store.list(PREFIX, limit=1)

    def list(self) -> builtins.list[ListedKey]:
        """The keys of all users, oldest first."""
        return self._read([_hash_of(key) for key in self._store.list(PREFIX)])

    def list_of(self, user: str) -> builtins.list[ListedKey]:
        """The keys of one user, oldest first."""
        return self._read([_hash_of_marker(marker) for marker in self._store.list(f"{MARKERS}{user}/")])

    def users(self) -> builtins.list[str]:
        """The users who have a key, in the order of their names. It reads no key."""
        return sorted({marker.split("/")[1] for marker in self._store.list(MARKERS)})

    def has_as_many_as(self, user: str, number: int) -> bool:
        """Return True if a user has at least this many keys. Records are read only if the markers say so."""
        return len(self._store.list(f"{MARKERS}{user}/", limit=number)) == number and (
            len(self.list_of(user)) >= number
        )

    def require_own(self, user: str, key_id: str) -> None:
        """Raises: KeyNotFound: unknown, or another user's."""
        self._own_markers(user, key_id)

    def revoke_own(self, user: str, key_id: str) -> None:
        """Delete a user's key. Raises: KeyNotFound: unknown, or another user's."""
        for marker in self._own_markers(user, key_id):
            self._delete(_hash_of_marker(marker), marker)

    def identified(self, name: str) -> KeyRecord:
        """The record of the one key that has this id, or whose hash begins with `name`.

        Raises:
            KeyNotIdentified: `name` is neither an id nor 8 hexadecimal characters, or not one key fits it.
        """
        return self._identify(name)[1]

    def revoke(self, name: str) -> KeyRecord:
        """Delete the one key that has this id, or whose hash begins with `name`; returns its record.

        Raises:
            KeyNotIdentified: `name` is neither an id nor 8 hexadecimal characters, or not one key fits it.
        """
        key_hash, record = self._identify(name)
        self._delete(key_hash, _marker(key_hash, record))
        return record

    def _identify(self, name: str) -> tuple[str, KeyRecord]:
        if ID_PATTERN.fullmatch(name):
            found = [named for named in self._named(self._hashes_of_id(name)) if named[1].id == name]
        elif HASH_PREFIX_PATTERN.fullmatch(name):
            found = self._named(_hash_of(key) for key in self._store.list(PREFIX + name))
        else:
            raise KeyNotIdentified(
                "name a key by its id, or by at least 8 hexadecimal characters of its hash"
            )
        if len(found) != 1:
            raise KeyNotIdentified(f"{len(found)} keys have the id, or a hash that begins with, {name}")
        return found[0]

    def _own_markers(self, user: str, key_id: str) -> Sequence[str]:
        """The markers of a user's key, of which there is one. Raises: KeyNotFound."""
        is_id = ID_PATTERN.fullmatch(key_id) is not None
        markers = self._store.list(f"{MARKERS}{user}/{key_id}/") if is_id else []
        if not markers:
            raise KeyNotFound(NO_SUCH_KEY)
        return markers

    def _delete_if_revoked(self, key_hash: str, record: KeyRecord) -> None:
        """Delete the marker that was just written, if the key was revoked before that write."""
        if self.lookup(key_hash) is None:
            self._store.delete(_marker(key_hash, record))

    def _delete(self, key_hash: str, marker: str) -> None:
        self._store.delete(_object_key(key_hash))
        self._store.delete(marker)

    def _hashes_of_id(self, key_id: str) -> builtins.list[str]:
        """The hashes of the keys that may have this id. A key with a derived id may have no marker."""
        derived = self._store.list(PREFIX + key_id.removeprefix("key-"))
        marked = [marker for marker in self._store.list(MARKERS) if f"/{key_id}/" in marker]
        return sorted({*map(_hash_of, derived), *map(_hash_of_marker, marked)})

    def _named(self, hashes: Iterable[str]) -> builtins.list[tuple[str, KeyRecord]]:
        """The hashes and records of the keys that exist."""
        hashes = tuple(hashes)
        stored = self._store.get_many(_object_key(key_hash) for key_hash in hashes)
        return [
            (key_hash, _record(key_hash, found.body))
            for key_hash, found in zip(hashes, stored, strict=True)
            if found is not None
        ]

    def _read(self, hashes: Iterable[str]) -> builtins.list[ListedKey]:
        named = self._named(hashes)
        markers = self._store.get_many(_marker(key_hash, record) for key_hash, record in named)
        listed = [
            ListedKey(key_hash, record, _last_used(marker.body) if marker else None)
            for (key_hash, record), marker in zip(named, markers, strict=True)
        ]
        return sorted(listed, key=lambda key: (key.record.created, key.record.id))


def _object_key(key_hash: str) -> str:
    return f"{PREFIX}{key_hash}.json"


def _hash_of(object_key: str) -> str:
    return object_key.removeprefix(PREFIX).removesuffix(".json")


def _marker(key_hash: str, record: KeyRecord) -> str:
    return f"{MARKERS}{record.user}/{record.id}/{key_hash}"


def _hash_of_marker(marker: str) -> str:
    return marker.rpartition("/")[2]


def _last_used(marker: bytes) -> datetime | None:
    return datetime.fromisoformat(marker.decode()) if marker else None


def _record(key_hash: str, body: bytes) -> KeyRecord:
    """The record of a key. An old record without an id gets one from the first characters of the hash."""
    derived = {"id": f"key-{key_hash[:DERIVED_ID_HASH_CHARACTERS]}"}
    return KeyRecord.model_validate(derived | json.loads(body))
