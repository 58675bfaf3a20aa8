"""The actions of users in the audit log, over real HTTP."""

import json

from registry.audit import AuditLog, Entry
from registry.records import utc_now
from tests.support.account import Account, assert_error
from tests.support.service import Service

SECRET = "nobody may read this"


def test_actions_of_a_user_are_in_the_log(service: Service, alice: Account, bob: Account) -> None:
    begin = utc_now()
    key = alice.http.get("/v1/keys").json()[0]["id"]
    made = alice.http.post("/v1/keys", json={"name": SECRET}, headers={"X-Request-Id": "make-a-key"}).json()
    alice.create("Mine", description=SECRET)
    body = {"messages": [{"role": "user", "content": SECRET}], "background": True}
    job = alice.train("mine", **body).json()["id"]
    assert alice.http.post(f"/v1/jobs/{job}/pause").json()["status"] == "paused"
    assert [paused["id"] for paused in alice.http.get("/v1/jobs?status=paused").json()] == [job]
    assert alice.http.post(f"/v1/jobs/{job}/resume").json()["status"] == "queued"
    assert_error(bob.http.post(f"/v1/jobs/{job}/pause"), 404, "job_not_found")
    for order in ("cancel", "pause", "resume"):
        assert alice.http.post(f"/v1/jobs/{job}/{order}").json()["status"] == "cancelled"
    alice.http.post("/v1/models/mine/revisions/0/activate")
    assert_error(alice.http.post("/v1/models/mine/revisions/5/activate"), 404, "revision_not_found", "n")
    assert_error(bob.http.delete("/v1/models/mine"), 404, "model_not_found", "model")
    alice.http.delete("/v1/models/mine")
    alice.create("Mine")
    alice.http.delete("/openai/v1/models/mine")
    alice.http.delete(f"/v1/keys/{made['id']}")
    assert_error(alice.http.delete(f"/v1/keys/{SECRET}"), 404, "key_not_found")
    assert_error(alice.http.delete(f"/v1/keys/{made['id']}"), 404, "key_not_found")
    assert_error(bob.http.delete(f"/v1/keys/{key}"), 404, "key_not_found")

    entries = [entry for entry in AuditLog(service.store).entries(begin) if entry.user == alice.user]
    assert [(entry.action, entry.outcome, entry.status) for entry in entries] == [
        ("create_key", "done", 201),
        ("create_model", "done", 201),
        ("accept_training", "done", 202),
        ("pause_training", "done", 200),
        ("resume_training", "done", 200),
        ("cancel_training", "done", 200),
        ("activate_revision", "done", 200),
        ("activate_revision", "revision_not_found", 404),
        ("delete_model", "done", 200),
        ("create_model", "done", 201),
        ("delete_model", "done", 200),
        ("revoke_key", "done", 200),
    ]
    assert {(entry.actor, entry.key) for entry in entries} == {("user", key)}
    assert entries[0].request_id == "make-a-key" and all(entry.request_id for entry in entries)
    assert_targets(entries, made["id"], job)
    assert not [entry for entry in AuditLog(service.store).entries(begin) if entry.user == bob.user]
    shown = json.dumps([entry.model_dump(mode="json") for entry in entries])
    assert SECRET not in shown and alice.key not in shown and made["key"] not in shown


def assert_targets(entries: list[Entry], key: str, job: str) -> None:
    """Every entry names what it is about."""
    assert entries[0].targets == entries[-1].targets == {"key": key}
    first, second = entries[1].targets["uid"], entries[9].targets["uid"]
    model = {"model": "mine", "uid": first}
    assert first != second
    assert [entry.targets for entry in entries[1:9]] == [
        model,
        *[{**model, "job": job}] * 4,
        {**model, "revision": "0"},
        {**model, "revision": "5"},
        model,
    ]
    assert entries[10].targets == {"model": "mine", "uid": second}
