"""API keys: `keys/<sha256 of key>.json` says whose a key is. The key itself is stored nowhere."""

import builtins
import hashlib
import re
import secrets

from registry.records import KeyRecord, utc_now
from registry.store import ObjectMissing, ObjectStore

PREFIX = "keys/"
HASH_PATTERN = re.compile(r"[0-9a-f]{64}")
HASH_PREFIX_PATTERN = re.compile(r"[0-9a-f]{8,64}")
SHOWN_HASH_CHARACTERS = 12


class KeyNotIdentified(LookupError):
    """Not exactly one key begins with the given characters; the message is for the operator."""


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class ApiKeys:
    """The operator shows and names keys by the first 12 characters of their hash."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(self, user: str, name: str) -> str:
        """Returns the key, which cannot be had again.

        Raises:
            pydantic.ValidationError: `user` is not a user name.
        """
        record = KeyRecord(user=user, name=name, created=utc_now())
        key = f"tiger_{secrets.token_urlsafe(32)}"
        self._store.create(_object_key(hash_key(key)), record.model_dump_json().encode())
        return key

    def lookup(self, key_hash: str) -> KeyRecord | None:
        if not HASH_PATTERN.fullmatch(key_hash):
            return None
        try:
            return KeyRecord.model_validate_json(self._store.get(_object_key(key_hash)).body)
        except ObjectMissing:
            return None

    def list(self) -> builtins.list[tuple[str, KeyRecord]]:
        """All keys by hash, oldest first."""
        keys = self._store.list(PREFIX)
        found = [
            (_hash_of(key), KeyRecord.model_validate_json(stored.body))
            for key, stored in zip(keys, self._store.get_many(keys), strict=True)
            if stored is not None
        ]
        return sorted(found, key=lambda item: item[1].created)

    def revoke(self, hash_prefix: str) -> str:
        """Delete the one key whose hash begins so; returns its hash.

        Raises:
            KeyNotIdentified: too short or not hexadecimal, no such key, or more than one.
        """
        if not HASH_PREFIX_PATTERN.fullmatch(hash_prefix):
            raise KeyNotIdentified("name a key by at least 8 hexadecimal characters of its hash")
        matching = self._store.list(PREFIX + hash_prefix)
        if len(matching) != 1:
            raise KeyNotIdentified(f"{len(matching)} keys have a hash that begins with {hash_prefix}")
        self._store.delete(matching[0])
        return _hash_of(matching[0])


def _object_key(key_hash: str) -> str:
    return f"{PREFIX}{key_hash}.json"


def _hash_of(object_key: str) -> str:
    return object_key.removeprefix(PREFIX).removesuffix(".json")
