"""Measures the control plane, with an instance of its own, in one run.

python -m bench.control     (make bench-control)

The baseline of a request is the bare handler: FastAPI on the same Ray Serve, with the replicas and CPUs of
our ingress. It answers with the same bytes as our ingress. The two are asked in turns, so that the load of
the machine is the same for both. `ratio_p50` is our median divided by that of the bare handler. Latencies are
in ms, with one connection.

listing      GET /v1/models of callers with 0, 10 and 1,000 private models among `--users` other users, and
             with 10 models before there are other users. `requests_per_s` and `loaded_*` are with 16
             connections, in turns of 5 s; `ratio_requests_per_s` is ours divided by the bare handler's
creation     POST /v1/models, which makes copies of the base model
activation   POST .../revisions/N/activate, each time with another revision than before
key_check    GET /v1/models of a user without models: with a key that is used for the first time, with a key
             that was just used, and with a key that does not exist (401)
history      `up` after `down` in s, three times with no jobs and three times with `--jobs` finished jobs;
             GET /v1/jobs, the first ten, of a user with ten jobs and of a user with a tenth of all jobs
queued       a listing and the time to first token, both at the same time: with no training, with one
             training, and with one training while 1,000 wait (the ratios compare the last two); and
             the trainings that are accepted per s
fine_tuning  GET /v1/models while a file of 10,000 short examples is uploaded and checked, and while a job is
             created from it, in turns with nothing else; `ratio_p99_*` are to the latter
memory       PSS in MiB of all processes but vLLM and the training workers, by kind of process, after `up` and
             after the other parts. The bare handler and this process are not counted. Also the memory that
             importing Ray Serve takes in a process of its own, beside the others

A part that is left out with `--only` stays in the file as it was. Each part has its machine and its date.
Writing the users and the jobs takes most of the time; `--users 1000 --jobs 5000` gives a first look.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.control.fine_tuning import fine_tuning
from bench.control.ground import Ground, ground
from bench.control.history import history
from bench.control.key_check import key_check
from bench.control.listing import listing
from bench.control.memory import memory, of_ray_serve
from bench.control.queued import queued
from bench.control.writes import activation, creation
from bench.machine import describe

Part = Callable[[Ground, argparse.Namespace], dict[str, Any]]

# The order matters: the history can be empty only before jobs are made, and the queue stays to the end.
PARTS: dict[str, Part] = {
    "listing": lambda own, options: listing(own, options.users),
    "creation": lambda own, options: creation(own),
    "activation": lambda own, options: activation(own),
    "key_check": lambda own, options: key_check(own),
    "history": lambda own, options: history(own, options.users, options.jobs),
    "fine_tuning": lambda own, options: fine_tuning(own),
    "queued": lambda own, options: queued(own),
}
MEMORY = "memory"


def main() -> None:
    options = _options()
    machine = describe()
    report: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    report.pop("machine", None)  # a file of an older version has one for all parts

    def show(name: str, values: dict[str, Any]) -> None:
        """Print the values of a part and write them at once, because a later part may fail."""
        report[name] = values | {"machine": machine}
        print(name, json.dumps(values), flush=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=2) + "\n")

    with ground() as own:
        own.up()
        print(f"up: {own.url}", flush=True)
        at_rest = memory(own.instance)
        for name, part in PARTS.items():
            if name in options.only:
                show(name, part(own, options))
        if MEMORY in options.only:
            at_end = memory(own.instance)
            show(MEMORY, {"at_rest": at_rest, "at_end": at_end, "import_ray_serve_mib": of_ray_serve()})
    print(f"written to {options.output}")


def _options() -> argparse.Namespace:
    names = [*PARTS, MEMORY]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="PART", help="measure only these parts"
    )
    parser.add_argument("--users", type=int, default=10_000, help="other users in the bucket")
    parser.add_argument("--jobs", type=int, default=100_000, help="finished jobs in the history")
    parser.add_argument("--output", type=Path, default=Path("bench/results/control.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
