"""The output and the exit codes of the `tiger` command."""

import json
import os
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from registry.keys import ApiKeys, hash_key, hour_of
from registry.records import utc_now
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.cli import app
from serve_app.instance.ports import free_ports


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


ODD = ["[/]", "[bold]x[/bold]", ":smile:", "\x1b[2Jgone", "two\nlines", "\u202eabc"]
"""What a terminal, or Rich, would obey."""


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


@pytest.mark.parametrize("name", ODD)
def test_name_of_a_key_is_shown_as_text(cluster: ObjectStore, name: str) -> None:
    ApiKeys(cluster).create("alice", name)
    listed = tiger("keys", "list")
    assert listed.exit_code == 0
    (row,) = (line for line in listed.stdout.splitlines() if "alice" in line)
    assert name.encode("unicode_escape").decode() in row
    revoked = tiger("keys", "revoke", row.split()[0])
    assert revoked.exit_code == 0 and revoked.stdout.count("\n") == 1 and "\x1b" not in revoked.stdout


@pytest.mark.parametrize("text", ODD)
def test_what_users_wrote_of_models_is_shown_as_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    model = {"id": "x", "revision": 1, "last_modified": "", "default_model": False}
    model |= dict.fromkeys(("name", "parent_model", "description"), text)
    monkeypatch.setenv("TIGER_API_KEY", "tiger_x")
    with answering(json.dumps([model]).encode()) as port:
        monkeypatch.setenv("TIGER_HTTP__PORT", str(port))
        monkeypatch.setenv("COLUMNS", "200")
        result = tiger("models")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[1].count(text.encode("unicode_escape").decode()) == 3


def test_refusal_of_the_service_is_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGER_API_KEY", "tiger_x")
    with answering(b'{"error": {"message": "[/] \\u001b[2J no"}}', 401) as port:
        monkeypatch.setenv("TIGER_HTTP__PORT", str(port))
        result = tiger("models")
    assert result.exit_code == 1
    assert "[/] \\x1b[2J no" in result.stderr


def test_logs_are_shown_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    log = tmp_path / "home" / "storage" / "weed.log"
    log.parent.mkdir(parents=True)
    log.write_text("\x1b[36mblue\x1b[0m GET /[/]\x1b[2J\n")
    result = tiger("logs", "storage")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "blue GET /[/]\\x1b[2J"


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[int]:
    """A service that gives one answer to everything; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


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


def test_up_chooses_a_configuration_for_a_new_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIGER_HTTP__PORT", "many")
    assert "configuration: local" in tiger("up").stdout


def test_up_takes_the_configuration_of_the_last_time(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "instance.json").write_text('{"config": "the-last-one"}')
    result = tiger("up")
    assert result.exit_code == 1 and "configuration:" not in result.stdout
    assert "the-last-one" in result.stderr


def test_logs_of_an_instance_without_any() -> None:
    result = tiger("logs", "storage")
    assert result.exit_code == 1
    assert "storage" in result.stderr


@pytest.mark.parametrize("command", ["up", "down", "status", "models", "logs", "keys create", "keys revoke"])
def test_every_command_explains_itself(command: str) -> None:
    result = tiger(*command.split(), "--help")
    assert result.exit_code == 0
    assert "--home" in result.stdout


def test_version_is_that_of_the_package() -> None:
    declared = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"tiger {declared['project']['version']}\n")
