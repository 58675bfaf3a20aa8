"""Prometheus understands its configuration and every query, and alerts fire for the right series."""

import subprocess
from pathlib import Path

import pytest
import yaml

from serve_app.instance.monitoring_files import SHIPPED, MonitoringFiles
from tests.support.prometheus import ALERTS, DASHBOARD, alerts, installed, panels, queries, rules_file

ALERT_TESTS = Path(__file__).parent / "alerts_test.yaml"


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        [installed("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_of_a_cluster_is_valid(tmp_path: Path) -> None:
    for name in ("prometheus.yaml", "alerts.yaml"):
        (tmp_path / name).write_text((SHIPPED / name).read_text())
    (tmp_path / "ray-token").write_text("token")
    promtool("check", "config", tmp_path / "prometheus.yaml")


def test_configuration_of_an_instance_is_valid(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("token")
    files = MonitoringFiles(tmp_path / "monitoring", "http://127.0.0.1:8265", token, tmp_path)
    files.write(20001, 20002)
    promtool("check", "config", files.prometheus_configuration)
    job = yaml.safe_load(files.prometheus_configuration.read_text())["scrape_configs"][0]
    (discovery,) = job["http_sd_configs"]
    assert discovery["url"] == "http://127.0.0.1:8265/api/prometheus/sd"
    assert job["relabel_configs"] == [{"target_label": "job", "replacement": "tiger"}]
    assert discovery["authorization"] == {"type": "Bearer", "credentials_file": str(token)}


def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    promtool("test", "rules", ALERT_TESTS)


def test_prometheus_can_parse_every_query_of_the_dashboard(tmp_path: Path) -> None:
    promtool("check", "rules", rules_file(tmp_path))


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    fired = {
        each["alertname"]
        for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"]
        for each in test["alert_rule_test"]
        if each["exp_alerts"]
    }
    assert {rule["alert"] for rule in alerts()} == fired


def test_every_alert_has_its_severity_a_summary_and_an_answer(operations: str) -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        assert f"| `{rule['alert']}` |" in operations, rule["alert"]


def test_panels_have_places_of_their_own() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(places)) == len(places) > 15
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels())


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=lambda path: path.name)
def test_no_query_looks_for_a_user_or_a_private_model(file: Path) -> None:
    assert queries()
    assert not any(f"{label}=" in file.read_text() for label in ("user", "uid", "private_model", "key"))
