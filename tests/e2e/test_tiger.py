"""The `tiger` command against the running system."""

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from registry.audit import Action, AuditLog
from registry.layout import KINDS, NOT_COPIED
from registry.records import utc_now
from serve_app.instance.instance import FIRST_USER, Instance
from serve_app.instance.ports import PortTaken
from tests.support.faults import REPLICA, processes
from tests.support.storage import free_port
from tests.support.system import Client, System

REVOCATION_S = 5


def tiger(system: System, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("tiger")), *arguments, "--home", str(system.instance.home)]
    environment = {"PATH": "/usr/bin:/bin", "TIGER_API_KEY": key, "COLUMNS": "200", "HOME": "/nonexistent"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_created_key_is_all_that_is_printed_and_works_until_revoked(system: System) -> None:
    made = tiger(system, "keys", "create", "carol", "--name", "laptop")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert made.stdout == f"{key}\n" and len(key.split()) == 1
    carol = Client(system.url, "carol", key)
    carol.get("/v1/models")
    row = next(line for line in tiger(system, "keys", "list").stdout.splitlines() if "carol" in line)
    assert "laptop" in row and key not in row

    revoked = tiger(system, "keys", "revoke", row.split()[0])
    assert revoked.returncode == 0, revoked.stderr
    deadline = time.monotonic() + REVOCATION_S
    while (status := carol.http.get("/v1/models").status_code) == 200 and time.monotonic() < deadline:
        continue
    assert status == 401


def test_status_shows_every_deployment_ready(system: System) -> None:
    shown = tiger(system, "status")
    assert shown.returncode == 0, shown.stdout
    for part in ("storage", "Ray", "Ingress", "Catalog", "Trainer", "ModelServer:twin", "ready", system.url):
        assert part in shown.stdout


def test_models_are_those_of_the_key(system: System, alice: Client) -> None:
    alice.create("Mine")
    shown = tiger(system, "models", key=alice.key)
    assert "mine" in shown.stdout and "SmolLM2-135M (default)" in shown.stdout
    assert tiger(system, "models", key="wrong").returncode == 1


def test_up_again_changes_nothing(system: System, alice: Client) -> None:
    before = system.instance.state
    again = tiger(system, "up")
    assert again.returncode == 0, again.stderr
    assert "TIGER_API_KEY" not in again.stdout
    assert system.instance.state == before


def test_deploy_applies_a_changed_limit_and_restarts_nothing(
    system: System, alice: Client, tmp_path: Path
) -> None:
    before = system.instance.config
    settings = yaml.safe_load(Path(before).read_text())
    settings["limits"]["max_models_per_user"] = 1
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(settings))
    replicas = {process.pid for process in processes(system, REPLICA)}

    deployed = tiger(system, "deploy", "--config", str(changed))
    try:
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        change = "limits.max_models_per_user: the default -> 1: takes effect without a restart"
        assert deployed.stdout.startswith(change)
        alice.create("First")
        body = {"name": "Second", "description": "Second.", "parent_model": "smollm2-135m"}
        assert alice.post("/v1/models", body, 429)["error"]["code"] == "quota_exceeded"
        assert {process.pid for process in processes(system, REPLICA)} == replicas
    finally:
        assert tiger(system, "deploy", "--config", before).returncode == 0


def test_deploy_asks_before_replicas_end(system: System, tmp_path: Path) -> None:
    settings = yaml.safe_load(Path(system.instance.config).read_text())
    settings["models"] = settings["models"][:1]
    removed = tmp_path / "removed.yaml"
    removed.write_text(yaml.safe_dump(settings))
    refused = tiger(system, "deploy", "--config", str(removed))
    assert refused.returncode == 3
    assert "base model twin: is removed" in refused.stdout
    assert "base model twin has" in refused.stdout and "--yes" in refused.stdout
    assert "nothing changes" in tiger(system, "deploy", "--dry-run").stdout


def test_first_key_and_deployment_are_in_the_audit_log(system: System) -> None:
    entries = list(AuditLog(system.instance.store()).entries(utc_now() - timedelta(days=1)))
    by_up = {(entry.action, entry.user): entry for entry in entries if entry.actor == "operator"}
    deployment = by_up[Action.DEPLOY_SETTINGS, None]
    assert deployment.outcome == "done" and deployment.targets.keys() == {"config", "sha256"}
    first_key = by_up[Action.CREATE_KEY, FIRST_USER]
    assert first_key.outcome == "done" and first_key.targets.keys() == {"key"}


def test_port_that_is_taken_is_named(system: System, tmp_path: Path) -> None:
    second = Instance(tmp_path, "local", system.instance.http_port, free_port())
    with pytest.raises(PortTaken, match=f"{system.instance.http_port}.*--port"):
        second.up(lambda line: None)


def test_logs_hold_no_key_and_no_prompt(system: System, alice: Client) -> None:
    prompt = "a phrase that is nowhere else"
    alice.greedy("smollm2-135m", prompt, 2)
    logged = tiger(system, "logs", "--lines", "100000")
    assert logged.returncode == 0 and len(logged.stdout) > 1000
    assert alice.key not in logged.stdout
    assert prompt not in logged.stdout


def test_every_object_of_the_bucket_is_of_a_kind_that_a_backup_knows(system: System, alice: Client) -> None:
    alice.create("Mine")
    assert system.instance.store().list_kinds() <= {*KINDS, *NOT_COPIED}


def test_interactive_documentation_is_served_without_a_key(system: System) -> None:
    for path in ("/docs", "/openapi.json", "/healthz", "/readyz"):
        assert httpx.get(system.url + path, trust_env=False, timeout=30).status_code == 200
