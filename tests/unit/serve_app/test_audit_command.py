"""The output and the exit codes of `tiger audit`."""

import json
from datetime import timedelta

import pytest

from registry.audit import Action, AuditLog
from registry.records import utc_now
from registry.store import ObjectStore
from tests.support.commands import tiger

pytestmark = pytest.mark.usefixtures("own_home")


def test_keys_of_the_operator_are_in_the_log(cluster: ObjectStore) -> None:
    key = tiger("keys", "create", "alice").stdout.strip()
    tiger("keys", "create", "bob")
    (key_id,) = (row.split()[0] for row in tiger("keys", "list").stdout.splitlines() if "alice" in row)
    tiger("keys", "revoke", key_id)
    shown = tiger("audit")
    assert shown.exit_code == 0 and key not in shown.stdout
    rows = [row.split()[2:] for row in shown.stdout.splitlines()[1:]]
    assert rows[0] == ["operator", "alice", "create_key", f"key={key_id}", "done", "-"]
    assert rows[1][:3] == ["operator", "bob", "create_key"]
    assert rows[2] == ["operator", "alice", "revoke_key", f"key={key_id}", "done", "-"]


def test_entries_are_chosen_by_user_and_age_and_printed_as_json(cluster: ObjectStore) -> None:
    def log_of(hours_ago: int) -> AuditLog:
        return AuditLog(cluster, lambda: utc_now() - timedelta(hours=hours_ago))

    for hours_ago in (50, 30, 1):
        log_of(hours_ago).begin(Action.CREATE_MODEL, "user", "alice", "key-1", f"request-{hours_ago}")
    log_of(1).begin(Action.CREATE_MODEL, "user", "bob", "key-2", "request-of-bob")
    shown = tiger("audit", "--json", "--user", "alice", "--since", "2d")
    assert shown.exit_code == 0
    entries = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [entry["request_id"] for entry in entries] == ["request-30", "request-1"]
    assert {(entry["key"], entry["outcome"]) for entry in entries} == {("key-1", "unknown")}
    assert len(tiger("audit", "--json", "--since", "12h").stdout.splitlines()) == 2


@pytest.mark.parametrize("since", ["7", "d", "7w", "-1d", "99999d"])
def test_age_that_is_none_is_refused(since: str) -> None:
    result = tiger("audit", f"--since={since}")
    assert result.exit_code == 1 and result.stdout == ""
    assert since in result.stderr and "7d" in result.stderr
