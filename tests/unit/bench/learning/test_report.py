"""A report that continues an earlier one."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.learning.curves import Curve, HeldOut, Round, Setup, ShownSetup
from bench.learning.report import Report
from bench.learning.shown_tasks import SHOWN_TASKS
from bench.learning.tasks import TASKS
from registry.records import Method

HELD_OUT = HeldOut(reward=0.5, quality=1.0, distinct=1.0, answers=["[Rome]"])
FORMAT, SUPERVISED = TASKS[0], SHOWN_TASKS[Method.SUPERVISED]


def written(path: Path) -> dict[str, Any]:
    """Write a report with a run of each side for two tasks; returns its content."""
    report = Report(Setup(num_rounds=1), ShownSetup(), "float32")
    for side in ("tiger", "trl"):
        report.curves(FORMAT, side).append(Curve(HELD_OUT, [Round(1, 0.5, 0.1, HELD_OUT, 1.0, 2.0)]))
        shown = Round(1, None, 0.1, HELD_OUT, 0.0, 2.0, other_kl=0.2)
        report.curves(SUPERVISED, side).append(Curve(HELD_OUT, [shown]))
    report.write(path)
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_runs_of_one_side_are_taken_over(tmp_path: Path) -> None:
    content = written(tmp_path / "report.json")
    report = Report(Setup(num_rounds=1), ShownSetup(), "float32")
    report.take(tmp_path / "report.json", "trl")
    assert report.curves(FORMAT, "tiger") == []
    assert report.curves(SUPERVISED, "trl")[0].rounds[0].other_kl == 0.2
    assert report.comparisons() == {}
    report.take(tmp_path / "report.json", "tiger")
    report.write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["tasks"] == content["tasks"]


def test_a_report_of_another_setup_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "report.json")
    report = Report(Setup(num_rounds=2), ShownSetup(), "float32")
    with pytest.raises(ValueError, match="another setup for format"):
        report.take(tmp_path / "report.json", "trl")
