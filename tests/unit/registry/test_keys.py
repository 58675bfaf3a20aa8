import re

import pytest
from pydantic import ValidationError

from registry.keys import ApiKeys, KeyNotIdentified, hash_key
from registry.store import ObjectStore


@pytest.fixture
def keys(store: ObjectStore) -> ApiKeys:
    return ApiKeys(store)


def test_key_is_found_by_its_hash_and_stored_nowhere(keys: ApiKeys, store: ObjectStore) -> None:
    key = keys.create("alice", "laptop")
    assert re.fullmatch(r"tiger_[A-Za-z0-9_-]{32,}", key)
    record = keys.lookup(hash_key(key))
    assert record is not None and (record.user, record.name) == ("alice", "laptop")
    assert store.list("") == [f"keys/{hash_key(key)}.json"]
    assert key.encode() not in store.get(f"keys/{hash_key(key)}.json").body


@pytest.mark.parametrize("key_hash", ["", "../x", "0" * 63, "0" * 64, "g" * 64])
def test_lookup_of_anything_else_is_none(keys: ApiKeys, key_hash: str) -> None:
    assert keys.lookup(key_hash) is None


def test_key_for_an_impossible_user_is_refused(keys: ApiKeys) -> None:
    with pytest.raises(ValidationError):
        keys.create("Alice/../bob", "laptop")


def test_list_and_revoke(keys: ApiKeys) -> None:
    hashes = [hash_key(keys.create(user, "key")) for user in ("alice", "bob")]
    assert [(key_hash, record.user) for key_hash, record in keys.list()] == [
        (hashes[0], "alice"),
        (hashes[1], "bob"),
    ]
    assert keys.revoke(hashes[0][:12]) == hashes[0]
    assert keys.lookup(hashes[0]) is None
    assert [key_hash for key_hash, _ in keys.list()] == [hashes[1]]


def test_revoke_refuses_what_is_not_exactly_one_key(keys: ApiKeys, store: ObjectStore) -> None:
    body = store_body(keys, store)
    alike = ["abcdef12" + digit * 56 for digit in "01"]
    for key_hash in alike:
        store.put(f"keys/{key_hash}.json", body)
    for prefix in ("abcdef12", "abcdef1", "00000000", "", "ABCDEF120", "../../users"):
        with pytest.raises(KeyNotIdentified):
            keys.revoke(prefix)
    assert keys.revoke("abcdef120") == alike[0]
    assert keys.lookup(alike[1]) is not None


def store_body(keys: ApiKeys, store: ObjectStore) -> bytes:
    key_hash = hash_key(keys.create("alice", "key"))
    body = store.get(f"keys/{key_hash}.json").body
    keys.revoke(key_hash)
    return body
