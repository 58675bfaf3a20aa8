"""Writes the configuration files of an instance's Prometheus and Grafana, below `<home>/monitoring`.

cluster/monitoring has the configuration, the alerts and the dashboard. These files add the addresses, the
token and the directories of the instance.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serve_app.instance.ports import LOOPBACK
from serve_app.settings import CONFIG_DIRECTORY

SHIPPED = CONFIG_DIRECTORY.parent / "cluster" / "monitoring"
SOURCE_NAME = "Prometheus"
"""The name under which Ray's dashboards look for Prometheus in Grafana."""

GRAFANA_INI = """\
[server]
http_addr = {address}
http_port = {port}
[paths]
data = {directory}/data
logs = {directory}/logs
plugins = {directory}/plugins
provisioning = {directory}/provisioning
[security]
# Ray's dashboard shows panels in frames. Nobody has to log in to look, and nobody can change anything.
allow_embedding = true
disable_initial_admin_creation = true
[auth]
disable_login_form = true
[auth.anonymous]
enabled = true
org_role = Viewer
# Nothing is reported to anybody or downloaded.
[analytics]
reporting_enabled = false
check_for_updates = false
check_for_plugin_updates = false
[news]
news_feed_enabled = false
[plugins]
preinstall_disabled = true
[snapshots]
external_enabled = false
"""


@dataclass(frozen=True)
class MonitoringFiles:
    """The files of one instance. `ray_dashboards` is the directory where Ray writes its own dashboards."""

    directory: Path
    dashboard_url: str
    token_path: Path
    ray_dashboards: Path

    @property
    def prometheus_configuration(self) -> Path:
        return self.directory / "prometheus.yaml"

    @property
    def prometheus_data(self) -> Path:
        return self.directory / "prometheus"

    @property
    def grafana_configuration(self) -> Path:
        return self._grafana / "grafana.ini"

    @property
    def _grafana(self) -> Path:
        return self.directory / "grafana"

    def write(self, prometheus_port: int, grafana_port: int) -> None:
        self._write_prometheus()
        self._write_grafana(prometheus_port, grafana_port)

    def _write_prometheus(self) -> None:
        configuration: dict[str, Any] = yaml.safe_load((SHIPPED / "prometheus.yaml").read_text())
        configuration["rule_files"] = [str(SHIPPED / name) for name in configuration["rule_files"]]
        for job in configuration["scrape_configs"]:
            for discovery in job["http_sd_configs"]:
                discovery["url"] = f"{self.dashboard_url}/api/prometheus/sd"
                discovery["authorization"]["credentials_file"] = str(self.token_path)
                discovery["refresh_interval"] = "5s"
        self._save(self.prometheus_configuration, yaml.safe_dump(configuration, sort_keys=False))

    def _write_grafana(self, prometheus_port: int, port: int) -> None:
        ini = GRAFANA_INI.format(address=LOOPBACK, port=port, directory=self._grafana)
        self._save(self.grafana_configuration, ini)
        source = {
            "name": SOURCE_NAME,
            "type": "prometheus",
            "access": "proxy",
            "url": f"http://{LOOPBACK}:{prometheus_port}",
            "isDefault": True,
        }
        providers = [
            {"name": name, "folder": name, "type": "file", "options": {"path": str(path)}}
            for name, path in (("tiger", SHIPPED / "grafana" / "dashboards"), ("Ray", self.ray_dashboards))
        ]
        provisioning = self._grafana / "provisioning"
        for kind, content in (
            ("datasources", {"apiVersion": 1, "datasources": [source]}),
            ("dashboards", {"apiVersion": 1, "providers": providers}),
        ):
            self._save(provisioning / kind / "tiger.yaml", yaml.safe_dump(content, sort_keys=False))

    @staticmethod
    def _save(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
