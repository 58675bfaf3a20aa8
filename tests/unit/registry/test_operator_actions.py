"""The records of an operator's actions. The log is in memory."""

import pytest

from registry.audit import BEGUN, ENDED, Action, AuditLog
from registry.errors import ModelInUse, Unavailable
from registry.operator_actions import recorded, recorded_deployment
from tests.support.audit_objects import AuditObjects, entries_of


@pytest.fixture
def objects() -> AuditObjects:
    return AuditObjects()


def test_action_is_recorded_with_the_ids_that_it_makes(objects: AuditObjects) -> None:
    with recorded(AuditLog(objects), Action.CREATE_KEY, "alice", reason="id-1") as made:
        assert [entry.outcome for entry in entries_of(objects)] == ["unknown"]
        made["key"] = "key-1"
    (entry,) = entries_of(objects)
    assert (entry.actor, entry.user, entry.outcome) == ("operator", "alice", "done")
    assert entry.targets == {"reason": "id-1", "key": "key-1"}


@pytest.mark.parametrize(
    ("error", "outcome"), [(ModelInUse("no", "model"), "model_in_use"), (RuntimeError("secret"), "failed")]
)
def test_action_that_fails_is_recorded_without_its_message(
    objects: AuditObjects, error: Exception, outcome: str
) -> None:
    with pytest.raises(type(error)), recorded(AuditLog(objects), Action.DELETE_MODEL):
        raise error
    assert [entry.outcome for entry in entries_of(objects)] == [outcome]
    assert b"secret" not in b"".join(objects.bodies.values())


def test_action_that_cannot_be_recorded_does_not_happen(objects: AuditObjects) -> None:
    objects.refused = BEGUN
    done = []
    with pytest.raises(Unavailable), recorded(AuditLog(objects), Action.REVOKE_KEY):
        done.append("revoked")
    assert done == []


def test_action_whose_outcome_cannot_be_recorded_has_happened(objects: AuditObjects) -> None:
    objects.refused = ENDED
    done = []
    with recorded(AuditLog(objects), Action.REVOKE_KEY):
        done.append("revoked")
    assert done == ["revoked"]
    assert [entry.outcome for entry in entries_of(objects)] == ["unknown"]


def test_interrupted_action_has_an_unknown_outcome(objects: AuditObjects) -> None:
    with pytest.raises(KeyboardInterrupt), recorded(AuditLog(objects), Action.REVOKE_KEY):
        raise KeyboardInterrupt
    assert [entry.outcome for entry in entries_of(objects)] == ["unknown"]


def test_deployment_is_recorded_by_the_digest_of_its_settings(objects: AuditObjects) -> None:
    log = AuditLog(objects)
    for secret in ("one", "two", "one"):
        with recorded_deployment(log, "/srv/configs/local.yaml", {"environment": secret}):
            pass
    entries = entries_of(objects)
    digests = [entry.targets["sha256"] for entry in entries]
    assert [entry.action for entry in entries] == ["deploy_settings"] * 3
    assert {entry.targets["config"] for entry in entries} == {"local.yaml"}
    assert len(set(digests)) == 2 and all(len(digest) == 64 for digest in digests)
    stored = b"".join(objects.bodies.values())
    assert b"srv" not in stored and b"environment" not in stored
