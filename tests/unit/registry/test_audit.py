"""The audit log on objects in memory."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from registry.audit import BEGUN, READ_BATCH, Action, AuditLog
from registry.errors import Unavailable
from registry.store import WriteConflict
from tests.support.audit_objects import AuditObjects, entries_of

NOON = datetime(2026, 2, 28, 12, 0, 0, 5000, tzinfo=UTC)


class Now:
    time = NOON

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def objects() -> AuditObjects:
    return AuditObjects()


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def log(objects: AuditObjects, now: Now) -> AuditLog:
    return AuditLog(objects, now)


def test_entry_tells_who_did_what_on_what_with_which_outcome(
    log: AuditLog, objects: AuditObjects, now: Now
) -> None:
    begun = log.begin(Action.ACCEPT_TRAINING, "user", "alice", "key-1", "request-1", {"uid": "u"})
    now.time = NOON + timedelta(seconds=2)
    log.end(begun, "done", 202, {"job": "job-1"})
    (entry,) = entries_of(objects)
    assert entry.model_dump() == {
        "time": NOON,
        "action": "accept_training",
        "actor": "user",
        "user": "alice",
        "key": "key-1",
        "targets": {"uid": "u", "job": "job-1"},
        "outcome": "done",
        "status": 202,
        "ended": now.time,
        "request_id": "request-1",
    }


def test_action_without_an_outcome_is_in_the_log(log: AuditLog, objects: AuditObjects) -> None:
    log.begin(Action.CREATE_KEY, "operator", "alice")
    (entry,) = entries_of(objects)
    assert (entry.outcome, entry.status, entry.ended) == ("unknown", None, None)
    assert (entry.actor, entry.user, entry.key) == ("operator", "alice", None)


def test_entries_are_in_the_order_of_time_across_days(log: AuditLog, objects: AuditObjects, now: Now) -> None:
    times = [NOON + timedelta(hours=5 * number) for number in range(8)]
    for time in reversed(times):
        now.time = time
        log.begin(Action.DELETE_MODEL, "user", "alice")
    assert [entry.time for entry in entries_of(objects)] == times


@pytest.mark.parametrize(("after", "number"), [(timedelta(0), 2), (timedelta(milliseconds=1), 1)])
def test_only_entries_since_a_time_are_read(log: AuditLog, now: Now, after: timedelta, number: int) -> None:
    for time in (NOON - timedelta(days=1), NOON, NOON + timedelta(seconds=1)):
        now.time = time
        log.begin(Action.DELETE_MODEL, "user", "alice")
    assert len(list(log.entries(NOON + after))) == number


def test_many_entries_are_read_in_batches(log: AuditLog, objects: AuditObjects) -> None:
    number = 2 * READ_BATCH + 1
    for index in range(number):
        begun = log.begin(Action.CREATE_MODEL, "user", "alice", targets={"model": str(index)})
        if index % 2:
            log.end(begun, "name_taken", 409)
    found = entries_of(objects)
    assert {entry.targets["model"] for entry in found} == set(map(str, range(number)))
    assert {int(entry.targets["model"]) % 2 for entry in found if entry.outcome == "unknown"} == {0}
    assert {int(entry.targets["model"]) % 2 for entry in found if entry.outcome == "name_taken"} == {1}


def test_outcome_that_was_written_stays(log: AuditLog, objects: AuditObjects) -> None:
    begun = log.begin(Action.REVOKE_KEY, "user", "alice")
    log.end(begun, "done", 200)
    with pytest.raises(WriteConflict):
        log.end(begun, "key_not_found", 404)
    assert entries_of(objects)[0].outcome == "done"


def test_beginning_that_cannot_be_written_is_an_error(log: AuditLog, objects: AuditObjects) -> None:
    objects.refused = BEGUN
    with pytest.raises(Unavailable):
        log.begin(Action.REVOKE_KEY, "user", "alice")


def test_user_name_that_is_none_writes_nothing(log: AuditLog, objects: AuditObjects) -> None:
    with pytest.raises(ValidationError):
        log.begin(Action.CREATE_KEY, "operator", "Not A User")
    assert objects.bodies == {}
