"""Measures serving and training on one GPU, in one run of a limited time, each figure against a baseline.

    python -m bench.gpu --tokenizer DIRECTORY --output DIRECTORY --limit-s 540
    python -m bench.gpu --scale tiny --output DIRECTORY         try all commands on a machine without a GPU

The parts, in their order:

    up              the start of our instance, which the next four parts use
    serving         our two APIs beside bare vLLM, which is started for this part
    adapters        many adapters beside the base model; the first ask of an adapter
    loop            trainings over HTTP, and streams beside them
    two trainings   two users who train at once, and one after the other
    training        optimizer steps beside a hand-written loop, when the instance is down

The report `gpu.json` is written again after every row. When the time is over, the part that runs is
interrupted, later ones are skipped, and all that was started is ended. The ends of all logs are kept in
`logs/` if a part did not succeed. The exit status is 1 if a part failed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.gpu.budget import TimeBudget
from bench.gpu.device import ROOT, describe_device
from bench.gpu.logs import copy_logs
from bench.gpu.parts import Part, Record, run_parts
from bench.gpu.report import Report
from bench.gpu.scales import SCALES, Scale, configuration
from bench.gpu.stage import Stage
from bench.temporary_instance import temporary_instance
from serve_app.instance.weights import prepare_weights
from serve_app.settings import load_settings

PARTS = ("serving", "adapters", "loop", "two trainings", "training")
WIND_DOWN_S = 40.0
"""The time to end an instance and to copy logs. No part may use it."""


def main() -> None:
    options = _options()
    budget = TimeBudget(options.limit_s - WIND_DOWN_S)
    scale: Scale = SCALES[options.scale]
    engine = dict(options.engine)
    options.output.mkdir(parents=True, exist_ok=True)
    head = {
        **describe_device(options.commit),
        "scale": scale.name,
        "limit_s": options.limit_s,
        "engine_changes": engine,
    }
    report = Report(options.output / "gpu.json", head)
    with tempfile.TemporaryDirectory(prefix="tiger-bench-", ignore_cleanup_errors=True) as scratch:
        directory = Path(scratch)
        weights = (options.weights or directory / "weights").resolve()
        make = Part("weights", lambda record: _make_weights(scale, options.tokenizer, weights), 0)
        run_parts([make], budget, report)
        if set(options.only) - {"training"}:
            values = configuration(scale, weights, engine)
            _measure_instance(values, scale, directory, options, budget, report)
        if "training" in options.only:
            run_parts([_training(scale, weights, options)], budget, report)
    print(json.dumps(report.states))
    print(f"written to {report.path}")
    sys.exit(1 if "failed" in report.states.values() else 0)


def _measure_instance(
    values: dict[str, Any],
    scale: Scale,
    directory: Path,
    options: argparse.Namespace,
    budget: TimeBudget,
    report: Report,
) -> None:
    config = directory / "gpu-bench.yaml"
    config.write_text(yaml.safe_dump(values))
    logs = options.output / "logs"
    logs.mkdir(exist_ok=True)
    with temporary_instance(str(config)) as instance:
        stage = Stage(instance, scale, directory, logs)
        run_parts(_parts(stage, options.only), budget, report)
        if set(report.states.values()) != {"measured"}:
            copy_logs(instance.home, logs)


def _parts(stage: Stage, names: Sequence[str]) -> list[Part]:
    # These modules import vLLM and torch, which takes seconds that `--help` does not need.
    from bench.gpu import adapters, loop, serving, two_trainings

    measures: dict[str, Callable[[Stage, Record], None]] = {
        "serving": serving.measure,
        "adapters": adapters.measure,
        "loop": loop.measure,
        "two trainings": two_trainings.measure,
    }
    needs_s = stage.scale.needs_s

    def part(name: str) -> Part:
        measure = measures[name]
        return Part(name, lambda record: measure(stage, record), needs_s[name], after=("up",))

    up = Part("up", lambda record: _up(stage), needs_s["up"], after=("weights",))
    return [up, *(part(name) for name in PARTS if name in names and name in measures)]


def _up(stage: Stage) -> None:
    stage.instance.up(lambda line: print(f"up: {line}", flush=True))


def _training(scale: Scale, weights: Path, options: argparse.Namespace) -> Part:
    """The steps are measured in a process of their own, which leaves nothing on the GPU."""
    output = options.output / "training.json"
    command = [sys.executable, "-m", "bench.gpu.training", "--few", "--scale", scale.name]
    command += ["--weights", str(weights), "--output", str(output.resolve())]
    if options.commit:
        command += ["--commit", options.commit]

    def run(record: Record) -> None:
        subprocess.run(command, check=True, cwd=ROOT)
        record("rows", json.loads(output.read_text())["rows"])

    return Part("training", run, scale.needs_s["training"], after=("weights",))


def _make_weights(scale: Scale, tokenizer: Path | None, weights: Path) -> None:
    """Make the weights in a process of their own, if they are not there."""
    if weights.is_dir():
        return
    command = [sys.executable, "-m", "bench.gpu.weights", "--scale", scale.name]
    source = (tokenizer or _packaged_tokenizer()).resolve()
    command += ["--tokenizer", str(source), "--output", str(weights)]
    subprocess.run(command, check=True, cwd=ROOT)


def _packaged_tokenizer() -> Path:
    settings = load_settings("local")
    model = settings.base_model(settings.default_model)
    return prepare_weights(model, settings.weights_directory.expanduser())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="llama-8b")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--limit-s", type=float, default=540.0, help="time of the whole run")
    parser.add_argument("--weights", type=Path, help="directory with the weights; it is made if missing")
    parser.add_argument(
        "--tokenizer", type=Path, help="directory with SmolLM2's tokenizer; none: that of configs/local.yaml"
    )
    parser.add_argument(
        "--engine",
        nargs="+",
        type=_engine_argument,
        default=[],
        metavar="NAME=VALUE",
        help="engine arguments of both engines, over those of the configuration",
    )
    parser.add_argument("--commit", help="commit of the sources, if they are no repository")
    parser.add_argument("--output", type=Path, default=Path("bench-gpu"), help="directory of the results")
    return parser.parse_args()


def _engine_argument(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError("an engine argument is NAME=VALUE")
    return name, yaml.safe_load(value)


if __name__ == "__main__":
    main()
