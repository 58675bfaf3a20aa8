"""The output and the exit codes of `tiger keys`."""

from datetime import timedelta
from pathlib import Path

import pytest

from registry.keys import ApiKeys, hash_key, hour_of
from registry.records import utc_now
from registry.store import ObjectStore
from tests.support.commands import ODD, tiger

pytestmark = pytest.mark.usefixtures("own_home")


def test_keys_create_prints_the_key_and_nothing_else(cluster: ObjectStore) -> None:
    result = tiger("keys", "create", "alice", "--name", "laptop")
    assert result.exit_code == 0
    record = ApiKeys(cluster).lookup(hash_key(result.stdout.removesuffix("\n")))
    assert record is not None and (record.user, record.name) == ("alice", "laptop")


def test_keys_are_listed_without_the_key_and_revoked_by_the_listed_id(cluster: ObjectStore) -> None:
    key = tiger("keys", "create", "alice", "--name", "laptop").stdout.strip()
    listed = tiger("keys", "list").stdout
    assert key not in listed and hash_key(key)[:12] not in listed
    (row,) = (line.split() for line in listed.splitlines() if "alice" in line)
    key_id = row[0]
    assert row[1:3] == ["alice", "laptop"] and row[-2:] == ["-", "-"]

    revoked = tiger("keys", "revoke", key_id)
    assert revoked.exit_code == 0 and key_id in revoked.stdout

    assert "alice" not in tiger("keys", "list").stdout
    again = tiger("keys", "revoke", key_id)
    assert again.exit_code == 1 and key_id in again.stderr


@pytest.mark.parametrize("name", ODD)
def test_name_of_a_key_is_shown_as_text(cluster: ObjectStore, name: str) -> None:
    ApiKeys(cluster).create("alice", name)
    listed = tiger("keys", "list")
    assert listed.exit_code == 0
    (row,) = (line for line in listed.stdout.splitlines() if "alice" in line)
    assert name.encode("unicode_escape").decode() in row
    revoked = tiger("keys", "revoke", row.split()[0])
    assert revoked.exit_code == 0 and revoked.stdout.count("\n") == 1 and "\x1b" not in revoked.stdout


def test_key_is_revoked_by_the_beginning_of_its_hash(cluster: ObjectStore) -> None:
    key = tiger("keys", "create", "alice").stdout.strip()
    assert tiger("keys", "revoke", hash_key(key)[:12]).exit_code == 0
    assert ApiKeys(cluster).is_empty()


def test_keys_are_listed_with_their_end_and_the_hour_of_their_last_use(cluster: ObjectStore) -> None:
    keys = ApiKeys(cluster)
    key = tiger("keys", "create", "alice", "--expires", "2100-01-31T12:30:00Z").stdout.strip()
    record = keys.lookup(hash_key(key))
    assert record is not None
    hour = hour_of(utc_now())
    keys.mark_used(hash_key(key), record, hour)
    (row,) = (line for line in tiger("keys", "list").stdout.splitlines() if "alice" in line)
    assert row.rstrip().endswith(f"2100-01-31 12:30  {hour:%Y-%m-%d %H:00}")


def test_key_may_end_in_some_days(cluster: ObjectStore) -> None:
    before = utc_now()
    key = tiger("keys", "create", "alice", "--expires", "90d").stdout.strip()
    record = ApiKeys(cluster).lookup(hash_key(key))
    assert record is not None and record.expires is not None
    assert before <= record.expires - timedelta(days=90) <= utc_now()


@pytest.mark.parametrize("expires", ["0d", "-1d", "99999d", "soon", "2000-01-31T12:00:00Z", "2100-01-31"])
def test_end_that_is_none_is_refused(cluster: ObjectStore, expires: str) -> None:
    result = tiger("keys", "create", "alice", "--expires", expires)
    assert result.exit_code == 1 and result.stdout == ""
    assert expires in result.stderr and "90d" in result.stderr
    assert ApiKeys(cluster).is_empty()


def test_keys_create_refuses_what_is_no_user_name(cluster: ObjectStore) -> None:
    result = tiger("keys", "create", "Not A User")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Not A User" in result.stderr


def test_keys_of_an_instance_that_is_down_say_so(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "instance.json").write_text('{"storage_port": 20000}')
    result = tiger("keys", "list")
    assert result.exit_code == 1
    assert "tiger up" in result.stderr
