"""Measures if training teaches, compared with TRL's own trainers on the same data.

    python -m bench.learning        (make bench-learning)

Three tasks learn from rewards (`bench.learning.tasks`), beside TRL's GRPOTrainer:

    tiger   generate n=8 for each training prompt -> score with a rule -> POST /v1/train -> repeat; over HTTP,
            on an instance of its own
    TRL     GRPOTrainer generates its own samples with transformers, in a process of its own, after the
            instance was stopped; with the same weights, adapter shape, prompts, samples, steps and loss

Three things differ on purpose. TRL clips gradients at norm 1. Our samples come from vLLM, and TRL's from
transformers. If the rewards are equal in every group, we train nothing, but TRL makes its steps on the KL
term alone. Both sides generate and train in float32. If we generate in bfloat16 (`--serving-dtype`), the
adapter of a small model loses some of its effect, and the samples are not those of the trained policy.

Two tasks show the answers (`bench.learning.shown_tasks`), beside TRL's SFTTrainer and DPOTrainer:

    tiger   one training of three epochs by the training worker, in a process of its own and without HTTP
    TRL     SFTTrainer or DPOTrainer, with the same weights, adapter shape, data, batch size, steps and rate

Again three things differ. TRL clips gradients at norm 1. The examples are shuffled in another order. TRL
learns the line break that the chat template writes after an answer.

Each run has a seed of its own: its number, from 0. Samples of vLLM have none. The report is written after
every run. `--tiger-from` and `--trl-from` take the runs of a side from an earlier report, and only the runs
that are missing to `--runs` are made. TRL's side of the three tasks takes most of the time.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bench.learning.apart import CONFIG, apart, tiger_from_shown, trl_from_rewards, trl_from_shown
from bench.learning.comparison import as_line
from bench.learning.curves import Curve, Setup, ShownSetup
from bench.learning.loop import Loop
from bench.learning.report import Report
from bench.learning.shown_tasks import SHOWN_TASKS
from bench.learning.tasks import TASKS, Task
from bench.temporary_instance import new_key, quiet, temporary_instance
from serve_app.settings import CONFIG_DIRECTORY, load_settings


def main() -> None:
    options = _options()
    setup = Setup(num_rounds=options.rounds, learning_rate=options.learning_rate)
    report = Report(setup, ShownSetup(), options.serving_dtype)
    for side, earlier in (("tiger", options.tiger_from), ("trl", options.trl_from)):
        if earlier is not None:
            report.take(earlier, side)
    learn_from_shown(report, options)
    learn_from_rewards(report, setup, options)
    report.write(options.output)
    draw(options.output)
    print(f"written to {options.output} and {options.output.with_suffix('.png')}")
    for name, comparison in report.comparisons().items():
        print(as_line(name, comparison))


def _options() -> argparse.Namespace:
    names = [task.name for task in (*TASKS, *SHOWN_TASKS.values())]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=Setup.learning_rate)
    parser.add_argument("--runs", type=int, default=3, help="runs of each task on each side")
    parser.add_argument("--serving-dtype", choices=("float32", "bfloat16"), default="float32")
    for side in ("tiger", "trl"):
        parser.add_argument(f"--{side}-from", type=Path, help="an earlier report with runs of this side")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("bench/results/learning.json"),
        help="report; a .png goes beside it",
    )
    return parser.parse_args()


def draw(path: Path) -> None:
    from bench.learning.plot import plot

    plot(json.loads(path.read_text()), path.with_suffix(".png"))


def learn_from_shown(report: Report, options: argparse.Namespace) -> None:
    """Make the runs that are missing, of both sides in turns."""
    sides = (("tiger", tiger_from_shown), ("trl", trl_from_shown))
    for seed in range(options.runs):
        for method, task in SHOWN_TASKS.items():
            for side, learn in sides if task.name in options.tasks else ():
                if seed >= len(report.curves(task, side)):
                    report.curves(task, side).append(apart(learn, method, ShownSetup(), seed))
                    report.write(options.output)


def learn_from_rewards(report: Report, setup: Setup, options: argparse.Namespace) -> None:
    """Make the runs that are missing: ours on an instance, and then TRL's."""
    tasks = [task for task in TASKS if task.name in options.tasks]

    def missing(task: Task, side: str) -> range:
        return range(len(report.curves(task, side)), options.runs)

    if any(missing(task, "tiger") for task in tasks):
        with config_of(options.serving_dtype) as config, temporary_instance(config) as own:
            own.up(quiet)
            key = new_key(own)
            for task in tasks:
                for _ in missing(task, "tiger"):
                    report.curves(task, "tiger").append(through_http(own.url, key, task, setup))
                    report.write(options.output)
    for task in tasks:
        for seed in missing(task, "trl"):
            report.curves(task, "trl").append(apart(trl_from_rewards, task, setup, seed))
            report.write(options.output)


def through_http(url: str, key: str, task: Task, setup: Setup) -> Curve:
    return Loop(url, key, load_settings(CONFIG).default_model, task, setup).learn()


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


if __name__ == "__main__":
    main()
