"""The actions of requests in the audit log, which is in memory."""

import asyncio

import pytest

from registry.audit import BEGUN, ENDED, Action, AuditLog
from registry.errors import KeyNotFound, TigerError, Unavailable
from serve_app.api.audit import AuditedRequest, AuditTrail
from tests.support.audit_objects import AuditObjects, entries_of
from tests.support.waiting import comes_true


@pytest.fixture
def objects() -> AuditObjects:
    return AuditObjects()


@pytest.fixture
def request_of_alice(objects: AuditObjects) -> AuditedRequest:
    return AuditedRequest(AuditTrail(AuditLog(objects)), "alice", "key-1", "request-1")


async def test_action_is_recorded_before_and_after(
    objects: AuditObjects, request_of_alice: AuditedRequest
) -> None:
    async with request_of_alice.recorded(Action.CREATE_MODEL, 201, parent="p") as made:
        (before,) = entries_of(objects)
        made["uid"] = "u"
    (after,) = entries_of(objects)
    assert (before.outcome, before.targets) == ("unknown", {"parent": "p"})
    assert (after.outcome, after.status, after.targets) == ("done", 201, {"parent": "p", "uid": "u"})
    assert (after.actor, after.user, after.key, after.request_id) == ("user", "alice", "key-1", "request-1")


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [(KeyNotFound("there is no such key"), "key_not_found", 404), (ValueError("x"), "internal_error", 500)],
)
async def test_refused_action_is_recorded_with_the_status_of_its_answer(
    objects: AuditObjects, request_of_alice: AuditedRequest, error: Exception, outcome: str, status: int
) -> None:
    with pytest.raises(TigerError):
        async with request_of_alice.recorded(Action.REVOKE_KEY):
            raise error
    (entry,) = entries_of(objects)
    assert (entry.outcome, entry.status) == (outcome, status)


async def test_action_that_cannot_be_recorded_does_not_happen(
    objects: AuditObjects, request_of_alice: AuditedRequest
) -> None:
    objects.refused = BEGUN
    done = []
    with pytest.raises(Unavailable):
        async with request_of_alice.recorded(Action.REVOKE_KEY):
            done.append("revoked")
    assert done == []


async def test_action_whose_outcome_cannot_be_recorded_is_answered(
    objects: AuditObjects, request_of_alice: AuditedRequest
) -> None:
    objects.refused = ENDED
    async with request_of_alice.recorded(Action.REVOKE_KEY):
        pass
    assert [entry.outcome for entry in entries_of(objects)] == ["unknown"]


async def test_outcome_is_unknown_if_the_client_goes_away_during_the_action(
    objects: AuditObjects, request_of_alice: AuditedRequest
) -> None:
    has_begun = asyncio.Event()

    async def act() -> None:
        async with request_of_alice.recorded(Action.DELETE_MODEL):
            has_begun.set()
            await asyncio.Event().wait()

    acting = asyncio.create_task(act())
    await has_begun.wait()
    acting.cancel()
    await asyncio.wait([acting])
    assert [entry.outcome for entry in entries_of(objects)] == ["unknown"]


async def test_outcome_is_written_if_the_client_goes_away_after_the_action(
    objects: AuditObjects, request_of_alice: AuditedRequest
) -> None:
    is_done = asyncio.Event()

    async def act() -> None:
        async with request_of_alice.recorded(Action.DELETE_MODEL):
            objects.may_write.clear()
            is_done.set()

    acting = asyncio.create_task(act())
    await is_done.wait()
    acting.cancel()
    await asyncio.wait([acting])
    assert acting.cancelled()
    objects.may_write.set()
    await comes_true(lambda: [entry.outcome for entry in entries_of(objects)] == ["done"])
