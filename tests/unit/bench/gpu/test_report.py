import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.report import Report


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_every_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "results" / "gpu.json"
    report = Report(path, {"commit": "abc"})
    assert read(path) == {"commit": "abc", "parts": {}}
    report.begin("serving")
    report.put("serving", "1 at once", {"ttft_p50_ms": 20.5})
    assert read(path)["parts"]["serving"] == {
        "state": "running",
        "rows": {"1 at once": {"ttft_p50_ms": 20.5}},
    }
    report.end("serving", "failed", error="RuntimeError: refused", seconds=3.0)
    assert read(path)["parts"]["serving"] == {
        "state": "failed",
        "rows": {"1 at once": {"ttft_p50_ms": 20.5}},
        "error": "RuntimeError: refused",
        "seconds": 3.0,
    }


def test_row_that_is_no_json_leaves_the_report_as_it_was(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.json", {})
    report.put("serving", "first", 1)
    before = read(report.path)
    with pytest.raises(TypeError):
        report.put("serving", "second", object())
    assert read(report.path) == before
    report.put("serving", "third", 3)
    assert read(report.path)["parts"]["serving"]["rows"] == {"first": 1, "third": 3}


def test_states_are_those_of_all_parts(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.json", {})
    report.begin("up")
    report.end("loop", "skipped", reason="no time")
    assert report.states == {"up": "running", "loop": "skipped"}
    assert report.state("adapters") is None
