"""What the control plane costs, with an instance of its own, in one run.

python -m bench.control     (make bench-control)

The baseline of a request is the bare handler: FastAPI on the same Ray Serve, with the replicas and CPUs of
our ingress, that answers with the very bytes of our answer. The two are asked in turns, so that both see the
same machine. `ratio_p50` is ours over the bare one's; latencies are in ms, and of one connection.

listing      GET /v1/models of callers with 0, 10 and 1,000 private models among `--users` other users, and
             with 10 before there are others. `requests_per_s` and `loaded_*` are of 16 connections, in turns
             of 5 s; `ratio_requests_per_s` is ours over the bare one's
creation     POST /v1/models, copies of the base model
activation   POST .../revisions/N/activate, another one each time
key_check    GET /v1/models of who has none: with a key never seen, with one just used, with one that is none
             (401)
history      `up` after `down` in s, three times with no job ever made and three times with `--jobs` finished
             ones; GET /v1/jobs, the first ten, of who has ten and of who has a tenth of all
queued       listing and time to first token while both go on: with nothing trained, beside one training,
             and beside one with 1,000 waiting (the ratios are of the last two); trainings accepted per s
memory       PSS in MiB of all that is neither vLLM nor a trainer, by kind of process, of the instance as it
             came up and at the end of the other parts; the bare handler and this process are left out;
             and what importing Ray Serve takes in a process of its own, beside the others

A part that is left out (`--only`) stays in the file as it was; each has its machine and its date.
Writing the users and the jobs takes most of the time; `--users 1000 --jobs 5000` gives a first look.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.control.ground import Ground, ground
from bench.control.history import history
from bench.control.key_check import key_check
from bench.control.listing import listing
from bench.control.memory import memory, of_ray_serve
from bench.control.queued import queued
from bench.control.writes import activation, creation
from bench.machine import describe

Part = Callable[[Ground, argparse.Namespace], dict[str, Any]]

# In this order: a history can be empty only before the queue.
PARTS: dict[str, Part] = {
    "listing": lambda own, options: listing(own, options.users),
    "creation": lambda own, options: creation(own),
    "activation": lambda own, options: activation(own),
    "key_check": lambda own, options: key_check(own),
    "history": lambda own, options: history(own, options.users, options.jobs),
    "queued": lambda own, options: queued(own),
}
MEMORY = "memory"


def main() -> None:
    options = _options()
    machine = describe()
    report: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    report.pop("machine", None)  # of a file from before parts had their own

    def show(name: str, values: dict[str, Any]) -> None:
        """Written at once too: a later part may fail."""
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
        "--only", nargs="+", choices=names, default=names, metavar="PART", help="of the above"
    )
    parser.add_argument("--users", type=int, default=10_000, help="other users in the bucket")
    parser.add_argument("--jobs", type=int, default=100_000, help="finished ones in the history")
    parser.add_argument("--output", type=Path, default=Path("bench/results/control.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
