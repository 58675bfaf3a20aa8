"""Measures how fast training is on this machine, in one run.

python -m bench.training        (make bench-training)

steps        the time of one optimizer step for several numbers of responses, tokens and groups; compared with
             a hand-written PyTorch + PEFT loop on the same tokens (bench.by_hand)
supervised   the time of one optimizer step of supervised training; compared with such a loop and with TRL's
             SFTTrainer, which packs its rows too, on the same tokens and in turns (bench.supervised_steps)
request      the time of a 5-step request over HTTP outside its steps, when Ray Train runs; compared with a
             cold `TorchTrainer.fit()`
publish      the time from the last optimizer step to the first token of the new revision; compared with a
             warm first token

A part that is left out with `--only` stays in the file as it was. Each part has its machine and its date.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.machine import describe
from bench.path import publish, train
from bench.steps import Shape, compare, job_of
from bench.supervised_steps import ExampleShape, compare_supervised, supervised_job
from bench.temporary_instance import client, quiet, temporary_instance
from serve_app.instance.instance import Instance
from serve_app.instance.weights import prepare_weights
from serve_app.settings import load_settings
from training.worker.resident_model import ResidentModel

STEPS = 3
WORDS = ["red", "blue", "green", "sky", "sea", "tree", "stone", "bird", "fish", "sun", "moon", "star"]
SHAPES = [
    *(Shape(1, responses, 32, 32) for responses in (2, 8, 64)),
    *(Shape(1, 8, 32, tokens) for tokens in (16, 64, 256)),
    Shape(1, 2, 32, 1024),
    Shape(1, 8, 512, 32),
    *(Shape(groups, 2, 32, 32) for groups in (8, 64)),
]
EXAMPLE_SHAPES = [
    ExampleShape(8, 32, 32),
    ExampleShape(32, 32, 32),
    ExampleShape(8, 16, 256),
    ExampleShape(8, 256, 32),
]
PARTS = ("http", "steps", "supervised")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench/results/training.json"))
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="measure only these parts"
    )
    options = parser.parse_args()
    report: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    earlier = report.pop("machine", None)  # a file of an older version has one for all parts
    machines = report.setdefault("machines", dict.fromkeys(("http", "steps"), earlier) if earlier else {})
    for part in (name for name in PARTS if name in options.only):
        machines[part] = describe()
        if part == "http":
            report["request"], report["publish"] = through_http()
            write(options.output, report)
            continue
        report[part] = []
        for row in steps() if part == "steps" else supervised():
            report[part].append(row)
            write(options.output, report)
    print(f"written to {options.output}")


def write(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def steps() -> Iterator[dict[str, Any]]:
    resident = resident_model()
    for shape in SHAPES:
        yield compare(resident, shape, job_of(shape, WORDS, " ", STEPS))


def supervised() -> Iterator[dict[str, Any]]:
    resident = resident_model()
    for shape in EXAMPLE_SHAPES:
        yield compare_supervised(resident, shape, supervised_job(shape, WORDS, STEPS))


def resident_model() -> ResidentModel:
    settings = load_settings("local")
    model = settings.models[0]
    weights = prepare_weights(model, settings.weights_directory.expanduser())
    return ResidentModel(str(weights), model.training, model.max_context_tokens)


def through_http() -> tuple[dict[str, Any], dict[str, Any]]:
    with temporary_instance() as instance:
        instance.up(quiet)
        with client(instance) as http:
            for number in range(2):
                body = {"name": f"Model {number}", "description": "", "parent_model": "smollm2-135m"}
                http.post("/v1/models", json=body).raise_for_status()
            resident = train(http)
            published = publish(http)
        cold_s = cold_fit(instance)
    warm_s = resident["outside_steps_warm_s"]
    request = {**resident, "cold_fit_outside_steps_s": cold_s, "ratio": round(cold_s / warm_s, 1)}
    return request, published


def cold_fit(instance: Instance) -> float:
    """The seconds outside the steps of a run that serves one request, on the same Ray.

    It has no HTTP, queue, storage or serving, so this is the least that a run for each request would cost.
    """
    found = instance.home / "cold-fit"
    command = [sys.executable, "-m", "bench.cold_fit", str(found)]
    environment = {**instance.environment(), "PYTHONPATH": os.getcwd()}
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return float(found.read_text())


if __name__ == "__main__":
    main()
