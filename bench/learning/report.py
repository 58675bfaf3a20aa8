"""The report of all runs. It is written after every run, and a later command can continue it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.learning.comparison import NUM_LAST, REACHED, compare
from bench.learning.curves import Curve, Setup, ShownSetup
from bench.learning.shown_tasks import SHOWN_TASKS
from bench.learning.tasks import TASKS, Task
from bench.machine import describe

SIDES = ("tiger", "trl")
_CURVES = TypeAdapter(list[Curve])


class Report:
    """The curves of both sides of each task."""

    def __init__(self, setup: Setup, shown_setup: ShownSetup, serving_dtype: str) -> None:
        self._head: dict[str, Any] = {
            "machine": describe(),
            "setup": asdict(setup),
            "shown_setup": asdict(shown_setup),
            "serving_dtype": serving_dtype,
            "compared": f"mean of the last {NUM_LAST} rounds, or of the last epoch; "
            f"reached at {REACHED} of TRL's",
        }
        self._setups = {task.name: self._head["setup"] for task in TASKS}
        self._setups |= {task.name: self._head["shown_setup"] for task in SHOWN_TASKS.values()}
        self._curves: dict[str, dict[str, list[Curve]]] = {
            task.name: {side: [] for side in SIDES} for task in (*TASKS, *SHOWN_TASKS.values())
        }

    def curves(self, task: Task, side: str) -> list[Curve]:
        return self._curves[task.name][side]

    def take(self, earlier: Path, side: str) -> None:
        """Take the runs of a side from an earlier report. Raises: ValueError: they have another setup."""
        report = json.loads(earlier.read_text())
        setups = {task.name: report["setup"] for task in TASKS}
        setups |= {task.name: report.get("shown_setup") for task in SHOWN_TASKS.values()}
        for name, found in report["tasks"].items():
            if {**setups[name], "runs": None} != {**self._setups[name], "runs": None}:
                raise ValueError(f"{earlier} has another setup for {name}: {setups[name]}")
            curves = [{"date": None, **curve} for curve in found[side]]
            self._curves[name][side] = _CURVES.validate_python(curves)

    def comparisons(self) -> dict[str, dict[str, Any]]:
        """The comparisons of the tasks that have runs of both sides."""
        shown = {task.name for task in SHOWN_TASKS.values()}
        return {
            name: compare(found["tiger"], found["trl"], 1 if name in shown else NUM_LAST)
            for name, found in self._curves.items()
            if found["tiger"] and found["trl"]
        }

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        comparisons = self.comparisons()
        entries = {
            task.name: {
                "goal": task.goal,
                "quality": task.quality_means,
                "comparison": comparisons.get(task.name),
                **{side: [asdict(curve) for curve in self.curves(task, side)] for side in SIDES},
            }
            for task in (*TASKS, *SHOWN_TASKS.values())
            if any(self.curves(task, side) for side in SIDES)
        }
        report = self._head | {"tasks": entries}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n")
