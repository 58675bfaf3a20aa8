"""Runs the parts of a measurement one after another, as long as there is time for them."""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.gpu.budget import OutOfTime, TimeBudget, interrupted_after
from bench.gpu.report import Report

Record = Callable[[str, Any], None]
"""Adds one row to the report: its name and its value."""


@dataclass(frozen=True)
class Part:
    """A part of the run. It is skipped if fewer than `needs_s` seconds are left.

    It is also skipped if a part in `after` was not measured.
    """

    name: str
    run: Callable[[Record], None]
    needs_s: float
    after: tuple[str, ...] = ()


def run_parts(parts: Sequence[Part], budget: TimeBudget, report: Report) -> None:
    """Run the parts in their order, and report the state of each. An error of a part does not end the run."""
    for part in parts:
        if missing := [name for name in part.after if report.state(name) != "measured"]:
            report.end(part.name, "skipped", reason=f"{', '.join(missing)} did not succeed")
        elif budget.remaining_s < part.needs_s:
            reason = f"needs {part.needs_s:.0f} s, {budget.remaining_s:.0f} s are left"
            report.end(part.name, "skipped", reason=reason)
        else:
            _run(part, budget, report)


def _run(part: Part, budget: TimeBudget, report: Report) -> None:
    report.begin(part.name)
    start, state, details = time.perf_counter(), "measured", {}
    try:
        with interrupted_after(max(budget.remaining_s, 0.001)):
            part.run(lambda name, value: report.put(part.name, name, value))
    except OutOfTime:
        state = "interrupted"
    except Exception as error:
        traceback.print_exc()
        state, details = "failed", {"error": f"{type(error).__name__}: {error}"[:2000]}
    report.end(part.name, state, seconds=round(time.perf_counter() - start, 1), **details)
