"""What the `tiger` command prints and how it exits."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from registry.keys import ApiKeys, hash_key, hour_of
from registry.records import utc_now
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.cli import app
from serve_app.ports import free_ports


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TIGER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TIGER_HOME", str(tmp_path / "home"))


@pytest.fixture
def cluster(storage_settings: StorageSettings, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The operator of a cluster: no instance here, storage from the environment."""
    for name in ("endpoint_url", "bucket", "prefix"):
        monkeypatch.setenv(f"TIGER_STORAGE__{name.upper()}", getattr(storage_settings, name))
    return ObjectStore(storage_settings)


def tiger(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


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


@pytest.mark.parametrize("command", ["models", "demo"])
def test_no_key_is_taken_from_the_command_line(command: str) -> None:
    """Every user of the machine can see it."""
    assert "--key" not in tiger(command, "--help").stdout
    assert tiger(command, "--key", "tiger_x").exit_code == 2


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


def test_status_of_nothing_is_1() -> None:
    result = tiger("status")
    assert result.exit_code == 1
    assert "stopped" in result.stdout and "not ready" in result.stdout


def test_models_of_an_instance_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGER_HTTP__PORT", str(free_ports(1)[0]))
    result = tiger("models")
    assert result.exit_code == 1
    assert "tiger status" in result.stderr


def test_an_unknown_config_is_named() -> None:
    result = tiger("up", "--config", "nowhere")
    assert result.exit_code == 1
    assert "nowhere" in result.stderr


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGER_HTTP__PORT", "many")
    result = tiger("up")
    assert result.exit_code == 1
    assert "http.port" in result.stderr


def test_logs_of_an_instance_without_any() -> None:
    result = tiger("logs", "storage")
    assert result.exit_code == 1
    assert "storage" in result.stderr


@pytest.mark.parametrize("command", ["up", "down", "status", "models", "logs", "keys create", "keys revoke"])
def test_every_command_explains_itself(command: str) -> None:
    result = tiger(*command.split(), "--help")
    assert result.exit_code == 0
    assert "--home" in result.stdout
