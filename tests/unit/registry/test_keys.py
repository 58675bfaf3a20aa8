"""Keys on a real object store. A store that fails at a write stands for a process that dies there."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from registry.errors import KeyNotFound, Unavailable
from registry.keys import ApiKeys, KeyNotIdentified, hash_key, hour_of
from registry.records import KeyRecord
from registry.settings import StorageSettings
from registry.store import ObjectStore

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


class Dying(ObjectStore):
    """A store that does `num_writes` of its writes, and none after that."""

    def __init__(self, settings: StorageSettings, num_writes: int) -> None:
        super().__init__(settings)
        self._num_left = num_writes

    def _count(self) -> None:
        if not self._num_left:
            raise Unavailable("dead")
        self._num_left -= 1

    def put(self, key: str, body: bytes) -> None:
        self._count()
        super().put(key, body)

    def create(self, key: str, body: bytes) -> str:
        self._count()
        return super().create(key, body)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)


@pytest.fixture
def keys(store: ObjectStore) -> ApiKeys:
    return ApiKeys(store)


def record_of(keys: ApiKeys, key: str) -> KeyRecord:
    record = keys.lookup(hash_key(key))
    assert record is not None
    return record


def put_old_key(store: ObjectStore, key: str, user: str = "alice") -> str:
    """Store a key as it was stored before keys had ids and markers; returns its hash."""
    body = {"user": user, "name": "old", "created": "2025-01-01T00:00:00.000Z"}
    store.put(f"keys/{hash_key(key)}.json", json.dumps(body).encode())
    return hash_key(key)


# Create, look up


def test_key_is_found_by_its_hash_and_stored_nowhere(keys: ApiKeys, store: ObjectStore) -> None:
    key = keys.create("alice", "laptop", NOON)
    assert re.fullmatch(r"tiger_[A-Za-z0-9_-]{32,}", key)
    record = record_of(keys, key)
    assert (record.user, record.name, record.expires) == ("alice", "laptop", NOON)
    assert re.fullmatch(r"key-[0-9a-f]{24}", record.id) and record.id[4:] not in hash_key(key)
    names = store.list("")
    assert set(names) == {f"keys/{hash_key(key)}.json", f"keys-of/alice/{record.id}/{hash_key(key)}"}
    assert all(key not in name and key.encode() not in store.get(name).body for name in names)


@pytest.mark.parametrize("key_hash", ["", "../x", "0" * 63, "0" * 64, "g" * 64])
def test_lookup_of_anything_else_is_none(keys: ApiKeys, key_hash: str) -> None:
    assert keys.lookup(key_hash) is None


def test_key_for_an_impossible_user_is_refused(keys: ApiKeys, store: ObjectStore) -> None:
    with pytest.raises(ValidationError):
        keys.create("Alice/../bob", "laptop")
    assert store.list("") == []


def test_key_expires_at_its_moment(keys: ApiKeys) -> None:
    record = record_of(keys, keys.create("alice", "laptop", NOON))
    assert not record.is_expired(NOON - timedelta(milliseconds=1))
    assert record.is_expired(NOON)
    assert not record_of(keys, keys.create("alice", "for ever")).is_expired(datetime.max.replace(tzinfo=UTC))


# Lists


def test_lists_have_the_keys_of_all_or_of_one_user_oldest_first(keys: ApiKeys) -> None:
    hashes = [hash_key(keys.create(user, "key")) for user in ("alice", "bob", "alice", "alice2")]
    assert [key.hash for key in keys.list()] == hashes
    assert [key.hash for key in keys.list_of("alice")] == [hashes[0], hashes[2]]
    assert keys.list_of("nobody") == []


def test_keys_of_a_user_are_found_without_reading_those_of_others(store: ObjectStore) -> None:
    class Counting(ObjectStore):
        asked: list[str]

        def get(self, key: str) -> Any:
            self.asked.append(key)
            return super().get(key)

    counting = Counting(store.settings)
    counting.asked = []
    keys = ApiKeys(counting)
    own = hash_key(keys.create("alice", "key"))
    for _ in range(5):
        keys.create("bob", "key")
    keys.list_of("alice")
    keys.revoke_own("alice", keys.list_of("alice")[0].record.id)
    assert counting.asked and all(own in key for key in counting.asked)


def test_no_key_at_all_is_known_without_reading_any(keys: ApiKeys) -> None:
    assert keys.is_empty()
    key = keys.create("alice", "key")
    assert not keys.is_empty()
    keys.revoke(hash_key(key))
    assert keys.is_empty()


def test_number_of_keys_is_of_those_that_there_are(keys: ApiKeys, store: ObjectStore) -> None:
    for _ in range(2):
        keys.create("alice", "key")
    keys.create("bob", "key")
    assert keys.has_as_many_as("alice", 2) and not keys.has_as_many_as("alice", 3)
    store.put("keys-of/alice/key-" + "0" * 24 + "/" + "0" * 64, b"")
    assert not keys.has_as_many_as("alice", 3)


# Last use


def test_last_use_is_the_hour(keys: ApiKeys) -> None:
    key = keys.create("alice", "key")
    assert keys.list_of("alice")[0].last_used is None
    keys.mark_used(hash_key(key), record_of(keys, key), hour_of(NOON + timedelta(minutes=59, seconds=59)))
    assert [listed.last_used for listed in (*keys.list_of("alice"), *keys.list())] == [NOON, NOON]


def test_use_that_is_written_after_the_revocation_revives_nothing(keys: ApiKeys, store: ObjectStore) -> None:
    key = keys.create("alice", "key")
    record = record_of(keys, key)
    keys.revoke_own("alice", record.id)
    keys.mark_used(hash_key(key), record, NOON)
    assert keys.lookup(hash_key(key)) is None
    assert store.list("") == []


def test_use_that_is_written_inside_a_revocation_revives_nothing(keys: ApiKeys, store: ObjectStore) -> None:
    """At that moment the record is deleted and the marker is not."""
    key = keys.create("alice", "key")
    record = record_of(keys, key)
    with pytest.raises(Unavailable):
        ApiKeys(Dying(store.settings, num_writes=1)).revoke_own("alice", record.id)
    keys.mark_used(hash_key(key), record, NOON)
    assert store.list("") == []


# Revoke


def test_user_revokes_by_id_once(keys: ApiKeys, store: ObjectStore) -> None:
    key = keys.create("alice", "key")
    keys.revoke_own("alice", record_of(keys, key).id)
    assert keys.lookup(hash_key(key)) is None
    assert store.list("") == []


@pytest.mark.parametrize("key_id", ["", "key-", "key-" + "0" * 24, "key-" + "0" * 12, "..", "../bob", "*"])
def test_absent_id_and_another_users_are_not_found_alike(keys: ApiKeys, key_id: str) -> None:
    keys.create("alice", "key")
    theirs = record_of(keys, keys.create("bob", "key")).id
    messages = set()
    for name in (key_id, theirs):
        with pytest.raises(KeyNotFound) as raised:
            keys.revoke_own("alice", name)
        messages.add(raised.value.args)
    assert len(messages) == 1
    assert len(keys.list()) == 2


def test_operator_revokes_by_id_or_by_hash_prefix(keys: ApiKeys, store: ObjectStore) -> None:
    by_id, by_hash = (keys.create("alice", "key") for _ in range(2))
    record = record_of(keys, by_id)
    assert keys.revoke(record.id) == record
    assert keys.revoke(hash_key(by_hash)[:12]).user == "alice"
    assert store.list("") == []
    with pytest.raises(KeyNotIdentified, match="0 keys"):
        keys.revoke(record.id)


def test_revoke_refuses_what_is_not_exactly_one_key(keys: ApiKeys, store: ObjectStore) -> None:
    body = json.dumps({"user": "alice", "name": "old", "created": "2025-01-01T00:00:00.000Z"}).encode()
    alike = ["abcdef12" + digit * 56 for digit in "01"]
    for key_hash in alike:
        store.put(f"keys/{key_hash}.json", body)
    for name in ("abcdef12", "abcdef1", "00000000", "", "ABCDEF120", "../../users", "key-", "key-abcdef12"):
        with pytest.raises(KeyNotIdentified):
            keys.revoke(name)
    keys.revoke("abcdef120")
    assert keys.lookup(alike[0]) is None and keys.lookup(alike[1]) is not None


# What a death leaves


@pytest.mark.parametrize("num_writes", [0, 1])
def test_death_in_a_creation_leaves_no_key(keys: ApiKeys, store: ObjectStore, num_writes: int) -> None:
    with pytest.raises(Unavailable):
        ApiKeys(Dying(store.settings, num_writes)).add("0" * 64, "alice", "key")
    assert len(store.list("")) == num_writes
    assert keys.lookup("0" * 64) is None
    assert keys.list_of("alice") == keys.list() == []


@pytest.mark.parametrize("by_operator", [False, True])
def test_death_in_a_revocation_leaves_a_key_that_works_and_is_listed_or_none(
    keys: ApiKeys, store: ObjectStore, by_operator: bool
) -> None:
    key = keys.create("alice", "key")
    key_id = record_of(keys, key).id
    for num_writes, expected in ((0, [key_id]), (1, [])):
        dying = ApiKeys(Dying(store.settings, num_writes))
        with pytest.raises(Unavailable):
            dying.revoke(key_id) if by_operator else dying.revoke_own("alice", key_id)
        assert [listed.record.id for listed in keys.list_of("alice")] == expected
        assert (keys.lookup(hash_key(key)) is not None) == bool(expected)
    keys.revoke_own("alice", key_id)
    assert store.list("") == []


# Keys from before there were ids and markers


def test_old_key_works_and_gets_an_id_that_stays(keys: ApiKeys, store: ObjectStore) -> None:
    key_hash = put_old_key(store, "tiger_old")
    record = keys.lookup(key_hash)
    assert record is not None
    assert (record.user, record.id, record.expires) == ("alice", f"key-{key_hash[:12]}", None)
    assert keys.list()[0].record == record


def test_old_key_is_found_by_its_user_once_it_is_marked_or_used(keys: ApiKeys, store: ObjectStore) -> None:
    new = hash_key(keys.create("alice", "new"))
    old, used = (put_old_key(store, f"tiger_{name}") for name in ("old", "used"))
    assert [key.hash for key in keys.list_of("alice")] == [new]
    record = keys.lookup(used)
    assert record is not None
    keys.mark_used(used, record, NOON)
    for _ in range(2):
        keys.mark_unmarked()
        assert {key.hash: key.last_used for key in keys.list_of("alice")} == {
            new: None,
            old: None,
            used: NOON,
        }
    keys.revoke_own("alice", f"key-{old[:12]}")
    assert keys.lookup(old) is None


@pytest.mark.parametrize("is_marked", [False, True])
def test_operator_revokes_an_old_key_by_its_id(keys: ApiKeys, store: ObjectStore, is_marked: bool) -> None:
    key_hash = put_old_key(store, "tiger_old")
    if is_marked:
        keys.mark_unmarked()
    assert keys.revoke(f"key-{key_hash[:12]}").name == "old"
    assert store.list("") == []
