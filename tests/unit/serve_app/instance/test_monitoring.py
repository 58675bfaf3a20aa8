"""The choices of the monitoring: its ports, what Ray is told, what is missing. Nothing is started."""

import socket
from pathlib import Path

import pytest
import yaml

from serve_app.instance.monitoring import GRAFANA, PROMETHEUS, Monitoring
from serve_app.instance.monitoring_files import MonitoringFiles
from serve_app.instance.state import StateFile
from tests.support.commands import tiger


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "instance.json")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with an executable file for each program."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("prometheus", "grafana-server"):
        (directory / name).write_text("#!/bin/sh\nexit 1\n")
        (directory / name).chmod(0o755)
    return directory


def test_nobody_asked_for_monitoring(tmp_path: Path, state: StateFile, programs: Path) -> None:
    monitoring = Monitoring(tmp_path, state, 8265, search_path=str(programs))
    monitoring.prepare(is_ray_running=False)
    lines: list[str] = []
    monitoring.ensure(tmp_path / "token", lines.append)
    assert (lines, monitoring.environment(), monitoring.states()) == ([], {}, {})


def test_choice_and_ports_are_remembered_until_they_are_withdrawn(
    tmp_path: Path, state: StateFile, programs: Path
) -> None:
    Monitoring(tmp_path, state, 8265, True, str(programs)).prepare(is_ray_running=False)
    chosen = state.read().monitoring
    again = Monitoring(tmp_path, state, 8265, None, str(programs))
    again.prepare(is_ray_running=False)
    assert state.read().monitoring == chosen
    assert again.environment() == {
        "RAY_PROMETHEUS_HOST": f"http://127.0.0.1:{chosen['Prometheus'].port}",
        "RAY_GRAFANA_HOST": f"http://127.0.0.1:{chosen['Grafana'].port}",
    }
    assert again.states() == {"Prometheus": "stopped", "Grafana": "stopped"}
    off = Monitoring(tmp_path, state, 8265, False, str(programs))
    off.prepare(is_ray_running=False)
    assert Monitoring(tmp_path, state, 8265, None, str(programs)).states() == {}


def test_port_that_another_process_has_is_not_kept(tmp_path: Path, state: StateFile) -> None:
    Monitoring(tmp_path, state, 8265, True).prepare(is_ray_running=False)
    before = state.read().monitoring
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", before["Grafana"].port))
        taken.listen()
        Monitoring(tmp_path, state, 8265).prepare(is_ray_running=False)
    after = state.read().monitoring
    assert after["Prometheus"] == before["Prometheus"]
    assert after["Grafana"].port != before["Grafana"].port


def test_missing_programs_are_named_and_ray_is_told_nothing(tmp_path: Path, state: StateFile) -> None:
    (tmp_path / "empty").mkdir()
    monitoring = Monitoring(tmp_path, state, 8265, True, str(tmp_path / "empty"))
    monitoring.prepare(is_ray_running=True)
    lines: list[str] = []
    monitoring.ensure(tmp_path / "token", lines.append)
    assert lines == [
        f"monitoring: Prometheus is not installed: {PROMETHEUS.remedy}",
        f"monitoring: Grafana is not installed: {GRAFANA.remedy}",
    ]
    assert monitoring.environment() == {}
    assert monitoring.states() == {"Prometheus": "not installed", "Grafana": "not installed"}


def test_program_that_ends_at_once_is_reported_with_its_log(
    tmp_path: Path, state: StateFile, programs: Path
) -> None:
    monitoring = Monitoring(tmp_path, state, 8265, True, str(programs))
    monitoring.prepare(is_ray_running=True)
    lines: list[str] = []
    monitoring.ensure(tmp_path / "token", lines.append)
    assert lines == [
        f"monitoring: Prometheus did not start (log: {monitoring.log(PROMETHEUS)})",
        f"monitoring: Grafana did not start (log: {monitoring.log(GRAFANA)})",
    ]


def test_grafana_listens_on_loopback_for_viewers_and_has_both_sets_of_dashboards(tmp_path: Path) -> None:
    files = MonitoringFiles(tmp_path, "http://127.0.0.1:8265", tmp_path / "token", tmp_path / "of-ray")
    files.write(20001, 20002)
    ini = files.grafana_configuration.read_text()
    for line in (
        "http_addr = 127.0.0.1",
        "http_port = 20002",
        "org_role = Viewer",
        "disable_login_form = true",
    ):
        assert line in ini.splitlines()
    provisioning = files.grafana_configuration.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "tiger.yaml").read_text())["datasources"]
    assert (source["name"], source["url"]) == ("Prometheus", "http://127.0.0.1:20001")
    providers = yaml.safe_load((provisioning / "dashboards" / "tiger.yaml").read_text())["providers"]
    ours, of_ray = (Path(each["options"]["path"]) for each in providers)
    assert (ours / "tiger.json").is_file()
    assert of_ray == tmp_path / "of-ray"


@pytest.mark.usefixtures("own_home")
def test_status_shows_the_monitoring(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    StateFile(home / "instance.json").update(has_monitoring=True)
    lines = tiger("status").stdout.splitlines()
    assert [line.split()[0] for line in lines if "stopped" in line or "not installed" in line][-2:] == [
        "Prometheus",
        "Grafana",
    ]
