"""The output and the exit codes of the `tiger` command."""

import json
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.instance.ports import free_ports
from serve_app.instance.rendered_config import cluster_config
from serve_app.settings import read_document
from tests.support.commands import ODD, tiger

pytestmark = pytest.mark.usefixtures("own_home")


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


@pytest.mark.parametrize("command", ["models", "demo"])
def test_no_key_is_taken_from_the_command_line(command: str) -> None:
    """Every user of the machine can see it."""
    assert "--key" not in tiger(command, "--help").stdout
    assert tiger(command, "--key", "tiger_x").exit_code == 2


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


@pytest.mark.parametrize(
    "command",
    ["up", "deploy", "environment", "down", "status", "models", "logs", "keys create", "keys revoke"],
)
def test_every_command_explains_itself(command: str) -> None:
    result = tiger(*command.split(), "--help")
    assert result.exit_code == 0
    assert "--home" in result.stdout


def test_serve_config_is_printed_for_serve_deploy() -> None:
    result = tiger("deploy", "--config", "gpu", "--print")
    assert result.exit_code == 0, result.stderr
    assert yaml.safe_load(result.stdout) == cluster_config(read_document("gpu"))


def test_deploy_to_a_cluster_needs_the_name_of_the_settings() -> None:
    """A default would replace what runs there by another installation."""
    result = tiger("deploy", "--address", "http://127.0.0.1:1", "--yes")
    assert result.exit_code == 1 and "--config" in result.stderr


def test_cluster_that_does_not_answer_is_named() -> None:
    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    result = tiger("deploy", "--config", "gpu", "--address", address)
    assert result.exit_code == 1 and f"the Ray dashboard at {address} does not answer" in result.stderr


def test_token_that_a_cluster_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"Forbidden", 403) as port:
        result = tiger("deploy", "--config", "gpu", "--address", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1 and "RAY_AUTH_TOKEN" in result.stderr


def test_instance_that_is_down_cannot_be_changed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "instance.json").write_text('{"config": "local"}')
    result = tiger("deploy", "--yes")
    assert result.exit_code == 1 and "`tiger up` starts it" in result.stderr


def test_setting_that_cannot_be_deployed_is_named(tmp_path: Path) -> None:
    settings = read_document("local")
    settings["models"][0]["serving"]["environment"] = {"HF_TOKEN": "hf_of_the_operator"}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    result = tiger("deploy", "--config", str(path), "--print")
    assert result.exit_code == 1 and "HF_TOKEN" in result.stderr
    assert "hf_of_the_operator" not in result.output


def test_environment_of_the_nodes_is_printed_for_a_shell() -> None:
    result = tiger("environment", "--config", "gpu")
    assert result.exit_code == 0
    assert "export RAY_AUTH_MODE=token" in result.stdout.splitlines()
    assert "export RAY_SERVE_ENABLE_HA_PROXY=1" in result.stdout.splitlines()


def test_version_is_that_of_the_package() -> None:
    declared = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"tiger {declared['project']['version']}\n")
