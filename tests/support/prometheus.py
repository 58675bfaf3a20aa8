"""Programs of Prometheus, and the alerts and the dashboard of cluster/monitoring with their series."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.instance.monitoring_files import SHIPPED

ALERTS = SHIPPED / "alerts.yaml"
DASHBOARD = SHIPPED / "grafana" / "dashboards" / "tiger.json"
SERIES = re.compile(r"\b(?:ray_\w+|up)\b")
REQUIRED = "REQUIRE_PROMETHEUS"
"""The variable with which continuous integration makes a failure of what would be skipped."""


def installed(program: str) -> str:
    """The path of `prometheus` or `promtool`. Without it, the test is skipped, or fails if it is required."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed: Debian has it in the package `prometheus`"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def alerts() -> list[dict[str, Any]]:
    """The alerts, each with `alert`, `expr`, `labels` and `annotations`."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard that show something."""
    return [each for each in json.loads(DASHBOARD.read_text())["panels"] if each["type"] != "row"]


def queries() -> dict[str, str]:
    """Every query, by the name of its alert, or by the title of its panel and its letter."""
    of_alerts = {rule["alert"]: rule["expr"] for rule in alerts()}
    of_panels = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in panels()
        for target in panel["targets"]
    }
    return of_alerts | of_panels


def named_series() -> set[str]:
    return {name for query in queries().values() for name in SERIES.findall(query)}


def rules_file(directory: Path) -> Path:
    """Writes a file of rules with every query of the dashboard, for promtool."""
    rules = [{"record": f"panel_{number}", "expr": query} for number, query in enumerate(queries().values())]
    path = directory / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    return path
