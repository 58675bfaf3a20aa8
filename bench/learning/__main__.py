"""Measures if training teaches: a user's loop on three verifiable tasks, compared with TRL's GRPOTrainer.

    python -m bench.learning        (make bench-learning)

    tiger   generate n=8 for each training prompt -> score with a rule -> POST /v1/train -> repeat; over HTTP,
            on an instance of its own
    TRL     GRPOTrainer generates its own samples with transformers, in a process of its own, after the
            instance was stopped; with the same weights, adapter shape, prompts, samples, steps and loss

Three things differ on purpose. TRL clips gradients at norm 1. Our samples come from vLLM, and TRL's from
transformers. If the rewards are equal in every group, we train nothing, but TRL makes its steps on the KL
term alone. Both sides generate and train in float32. If we generate in bfloat16 (`--serving-dtype`), the
adapter of a small model loses some of its effect, and the samples are not those of the trained policy. TRL's
side takes most of the time and changes only with its version; `--trl-from` takes it from an earlier report.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from bench.learning.apart import CONFIG, teach_trl
from bench.learning.comparison import NUM_LAST, REACHED, as_line, compare
from bench.learning.curves import Curve, Setup
from bench.learning.loop import Loop
from bench.learning.tasks import TASKS, Task
from bench.machine import describe
from bench.temporary_instance import new_key, quiet, temporary_instance
from serve_app.settings import CONFIG_DIRECTORY, load_settings

Curves = dict[str, list[Curve]]
"""The curves of all runs, by the name of the task."""


def main() -> None:
    options = _options()
    tasks = [task for name in options.tasks for task in TASKS if task.name == name]
    setup = Setup(num_rounds=options.rounds, learning_rate=options.learning_rate)
    machine = describe()
    with config_of(options.serving_dtype) as config, temporary_instance(config) as own:
        own.up(quiet)
        key = new_key(own)
        tiger = {task.name: teach_tiger(own.url, key, task, setup, options.runs) for task in tasks}
    trl = {task.name: trl_of(task, setup, options) for task in tasks}
    comparisons = {task.name: compare(tiger[task.name], trl[task.name]) for task in tasks}
    report = {
        "machine": machine,
        "setup": asdict(setup) | {"runs": options.runs},
        "serving_dtype": options.serving_dtype,
        "compared": f"mean of the last {NUM_LAST} rounds; reached at {REACHED} of TRL's",
        "tasks": {task.name: entry(task, tiger, trl, comparisons[task.name]) for task in tasks},
    }
    write(options.output, report)
    for name, comparison in comparisons.items():
        print(as_line(name, comparison))


def _options() -> argparse.Namespace:
    names = [task.name for task in TASKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=Setup.learning_rate)
    parser.add_argument("--runs", type=int, default=1, help="runs of each task on each side")
    parser.add_argument("--serving-dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--trl-from", type=Path, help="take TRL's side from this report of the same tasks and setup"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("bench/results/learning.json"),
        help="report; a .png goes beside it",
    )
    return parser.parse_args()


def teach_tiger(url: str, key: str, task: Task, setup: Setup, num_runs: int) -> list[Curve]:
    base_model = load_settings(CONFIG).default_model
    return [Loop(url, key, base_model, task, setup).learn() for _ in range(num_runs)]


@contextmanager
def config_of(serving_dtype: str) -> Iterator[str]:
    """The path of a configuration like CONFIG that serves with this dtype. It exists during the block."""
    config = yaml.safe_load((CONFIG_DIRECTORY / f"{CONFIG}.yaml").read_text())
    for model in config["models"]:
        model["serving"]["engine"]["dtype"] = serving_dtype
    with tempfile.TemporaryDirectory(prefix="tiger-learning-") as directory:
        path = Path(directory) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        yield str(path)


def trl_of(task: Task, setup: Setup, options: argparse.Namespace) -> list[Curve]:
    """TRL's curves, new or from the earlier report. Raises: ValueError: that report is of another setup."""
    if options.trl_from is None:
        return teach_trl(task, setup, options.runs)
    report = json.loads(options.trl_from.read_text())
    if report["setup"] != asdict(setup) | {"runs": options.runs}:
        raise ValueError(f"{options.trl_from} is of another setup: {report['setup']}")
    return TypeAdapter(list[Curve]).validate_python(report["tasks"][task.name]["trl"])


def entry(task: Task, tiger: Curves, trl: Curves, comparison: dict[str, Any]) -> dict[str, Any]:
    def plain(curves: Sequence[Curve]) -> list[dict[str, Any]]:
        return [asdict(curve) for curve in curves]

    return {
        "goal": task.goal,
        "quality": task.quality_means,
        "comparison": comparison,
        "tiger": plain(tiger[task.name]),
        "trl": plain(trl[task.name]),
    }


def write(path: Path, report: dict[str, Any]) -> None:
    from bench.learning.plot import plot

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    plot(report, path.with_suffix(".png"))
    print(f"written to {path} and {path.with_suffix('.png')}")


if __name__ == "__main__":
    main()
