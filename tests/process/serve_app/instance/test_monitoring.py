"""Prometheus and a program in place of Grafana, started and stopped as `tiger up` and `tiger down` do it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve_app.instance.instance import Instance
from serve_app.instance.monitoring import GRAFANA, PROMETHEUS, Monitoring
from serve_app.instance.state import StateFile
from tests.support.prometheus import installed

GRAFANA_STAND_IN = """\
#!{python}
import argparse, configparser, http.server

parser = argparse.ArgumentParser()
parser.add_argument("subcommand", choices=["server"])
parser.add_argument("--homepath", required=True)
parser.add_argument("--config", required=True)
configuration = configparser.ConfigParser()
configuration.read(parser.parse_args().config)
server = configuration["server"]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()


http.server.HTTPServer((server["http_addr"], int(server["http_port"])), Handler).serve_forever()
"""


@pytest.fixture
def monitoring(tmp_path: Path) -> Iterator[Monitoring]:
    installed("prometheus")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "grafana").write_text(GRAFANA_STAND_IN.format(python=sys.executable))
    (programs / "grafana").chmod(0o755)
    (tmp_path / "token").write_text("token")
    search_path = f"{programs}:{os.environ['PATH']}"
    monitoring = Monitoring(tmp_path, StateFile(tmp_path / "instance.json"), 1, True, search_path)
    try:
        yield monitoring
    finally:
        monitoring.stop()


def test_programs_start_answer_are_kept_and_stop(monitoring: Monitoring, tmp_path: Path) -> None:
    def ensured(is_ray_running: bool = False) -> list[str]:
        lines: list[str] = []
        monitoring.prepare(is_ray_running)
        monitoring.ensure(tmp_path / "token", lines.append)
        return lines

    assert [line.partition(" at ")[0] for line in ensured(is_ray_running=True)] == [
        "monitoring: Prometheus started",
        "monitoring: Grafana started",
        "monitoring: Ray's own dashboard shows it after the next `tiger down` and `tiger up`",
    ]
    urls = [monitoring.url(PROMETHEUS), monitoring.url(GRAFANA)]
    assert list(monitoring.urls().values()) == urls
    assert monitoring.states()["Prometheus"] == f"running at {urls[0]}"
    rules = httpx.get(f"{urls[0]}/api/v1/rules", trust_env=False).raise_for_status().json()
    assert [group["name"] for group in rules["data"]["groups"]] == ["tiger"]

    assert [line.partition(" at ")[0] for line in ensured()][:2] == [
        "monitoring: Prometheus running",
        "monitoring: Grafana running",
    ]
    monitoring.stop()
    assert monitoring.states() == {"Prometheus": "stopped", "Grafana": "stopped"}
    for url in urls:
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)
    ensured()
    assert [monitoring.url(PROMETHEUS), monitoring.url(GRAFANA)] == urls


def test_ray_of_an_instance_is_told_of_its_prometheus(tmp_path: Path) -> None:
    installed("prometheus")
    instance = Instance(tmp_path, monitoring=True)
    assert "RAY_PROMETHEUS_HOST" not in instance.environment(), "it has no port yet"
    instance.monitoring.prepare(is_ray_running=False)
    url = instance.environment()["RAY_PROMETHEUS_HOST"]
    assert url == instance.monitoring.url(PROMETHEUS)
    assert Instance(tmp_path).environment()["RAY_PROMETHEUS_HOST"] == url
    Instance(tmp_path, monitoring=False).monitoring.prepare(is_ray_running=False)
    assert "RAY_PROMETHEUS_HOST" not in Instance(tmp_path).environment()
