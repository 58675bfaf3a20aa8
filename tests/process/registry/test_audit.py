"""The audit log on a real object store."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from registry.audit import PREFIX, Action, AuditLog
from registry.errors import UNREACHABLE, Unavailable
from registry.keys import ApiKeys, hash_key
from registry.operator_actions import OperatorKeys
from registry.settings import StorageSettings
from registry.store import ObjectStore, WriteConflict

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)


class StoreWithoutLog(ObjectStore):
    """A store that does not accept objects whose keys end as in `refused`."""

    refused = ""

    def create(self, key: str, body: bytes) -> str:
        if key.startswith(PREFIX) and key.endswith(self.refused):
            raise Unavailable(UNREACHABLE)
        return super().create(key, body)


@pytest.fixture
def refusing(store: ObjectStore, storage_settings: StorageSettings) -> StoreWithoutLog:
    return StoreWithoutLog(storage_settings)


def test_writers_at_the_same_moment_lose_nothing(store: ObjectStore) -> None:
    """Two processes write entries with the same time."""
    logs = [AuditLog(ObjectStore(store.settings), lambda: NOON) for _ in range(2)]

    def write(number: int) -> None:
        log = logs[number % 2]
        begun = log.begin(Action.CREATE_MODEL, "user", "alice", targets={"number": str(number)})
        log.end(begun, "done", 201)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    entries = list(logs[0].entries(NOON))
    assert {entry.targets["number"] for entry in entries} == set(map(str, range(40)))
    assert {entry.outcome for entry in entries} == {"done"}


def test_entry_is_never_written_again(store: ObjectStore) -> None:
    log = AuditLog(store)
    begun = log.begin(Action.REVOKE_KEY, "user", "alice")
    log.end(begun, "done", 200)
    with pytest.raises(WriteConflict):
        log.end(begun, "key_not_found", 404)
    assert [entry.outcome for entry in log.entries(begun.time)] == ["done"]


def test_key_is_neither_made_nor_revoked_without_an_entry(
    store: ObjectStore, refusing: StoreWithoutLog
) -> None:
    kept = ApiKeys(store).create("alice", "kept")
    keys = OperatorKeys(refusing)
    with pytest.raises(Unavailable):
        keys.create("alice", "laptop")
    with pytest.raises(Unavailable):
        keys.revoke(hash_key(kept))
    assert [key.record.name for key in ApiKeys(store).list()] == ["kept"]


def test_key_whose_outcome_is_not_written_is_in_the_log(
    store: ObjectStore, refusing: StoreWithoutLog
) -> None:
    refusing.refused = "ended.json"
    key = OperatorKeys(refusing).create("alice", "laptop")
    assert ApiKeys(store).lookup(hash_key(key)) is not None
    (entry,) = AuditLog(store).entries(NOON)
    assert (entry.action, entry.user, entry.outcome) == ("create_key", "alice", "unknown")
