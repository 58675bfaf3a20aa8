import json
import threading
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.budget import TimeBudget
from bench.gpu.parts import Part, Record, run_parts
from bench.gpu.report import Report

FAR_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "gpu.json", {})


def parts_of(report: Report) -> Any:
    return json.loads(report.path.read_text())["parts"]


def test_part_without_enough_time_is_skipped_and_a_shorter_one_is_run(report: Report) -> None:
    clock = Clock()

    def measure(record: Record) -> None:
        record("tokens_per_s", 10)
        clock.now_s += 70

    parts = [Part("long", measure, 90), Part("longer", measure, 31), Part("short", measure, 30)]
    run_parts(parts, TimeBudget(100, clock), report)
    assert report.states == {"long": "measured", "longer": "skipped", "short": "measured"}
    assert parts_of(report)["longer"]["reason"] == "needs 31 s, 30 s are left"
    assert parts_of(report)["long"]["rows"] == {"tokens_per_s": 10}


def test_part_that_fails_keeps_its_rows_and_ends_only_what_needs_it(report: Report) -> None:
    def fail(record: Record) -> None:
        record("first", 1)
        raise ValueError("the second failed")

    def measure(record: Record) -> None:
        record("first", 2)

    parts = [Part("up", fail, 0), Part("serving", measure, 0, after=("up",)), Part("training", measure, 0)]
    run_parts(parts, TimeBudget(FAR_S), report)
    assert report.states == {"up": "failed", "serving": "skipped", "training": "measured"}
    assert parts_of(report)["up"]["rows"] == {"first": 1}
    assert parts_of(report)["up"]["error"] == "ValueError: the second failed"
    assert parts_of(report)["serving"]["reason"] == "up did not succeed"


def test_part_is_interrupted_when_the_time_is_over(report: Report) -> None:
    def hang(record: Record) -> None:
        record("first", 1)
        threading.Event().wait(FAR_S)

    parts = [Part("hangs", hang, 0.01), Part("later", hang, 0.01)]
    run_parts(parts, TimeBudget(0.05), report)
    assert report.states == {"hangs": "interrupted", "later": "skipped"}
    assert parts_of(report)["hangs"]["rows"] == {"first": 1}
