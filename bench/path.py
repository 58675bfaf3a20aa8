"""Measures the whole path on this machine, with an instance of its own, in one run.

python -m bench.path        (make bench-path)

up           `tiger up` when everything is installed and nothing runs; compared with `up` when all runs
listing      GET /v1/models with ten private models; compared with GET /healthz of the same ingress
train        the time of a 5-step request outside its optimizer steps, when Ray Train runs; compared with the
             first such request, which starts Ray Train
publish      the time from the last optimizer step to the first token of the new revision, and the time to
             that token alone after the training has ended; compared with a warm first token
memory       PSS of every process of the instance, at rest: without and with a training worker
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.machine import describe
from bench.memory import pss_by_kind
from bench.temporary_instance import client, quiet, temporary_instance
from serve_app.instance.instance import Instance

NUM_LISTINGS = 300
NUM_TRAININGS = 5
PROMPT = [{"role": "user", "content": "Say a colour."}]
RESPONSES = [
    {"content": "Blue.", "reward": 1.0},
    {"content": "Red!", "reward": 0.5},
    {"content": "I cannot.", "reward": 0.0},
    {"content": "What?", "reward": 0.0},
]
WORK = {"messages": PROMPT, "responses": RESPONSES, "learning_steps": 5}
"""The request of a training, without its model."""


@dataclass(frozen=True)
class Run:
    """The times of one training, as its client sees them.

    `events` are the messages and steps of its stream, with the seconds since the request.
    """

    total_s: float
    steps_s: float
    last_step_at: float
    events: tuple[tuple[str, float], ...]

    @property
    def outside_steps_s(self) -> float:
        return self.total_s - self.steps_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench/results/path.json"))
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": describe()}
    with temporary_instance() as instance:
        measure(instance, report)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.output}")


def measure(instance: Instance, report: dict[str, Any]) -> None:
    def show(name: str, values: dict[str, Any]) -> None:
        report[name] = values
        print(name, json.dumps(values), flush=True)

    show("up", up(instance))
    with client(instance) as http:
        for number in range(10):
            body = {"name": f"Model {number}", "description": "", "parent_model": "smollm2-135m"}
            http.post("/v1/models", json=body).raise_for_status()
        show("listing", listing(http))
        at_rest = memory_gib(instance)
        show("train", train(http))
        show("publish", publish(http))
        show("memory", {"at_rest_gib": at_rest, "with_trainer_gib": memory_gib(instance)})


def up(instance: Instance) -> dict[str, Any]:
    first_s, again_s = (timed(lambda: instance.up(quiet)) for _ in range(2))
    return {
        "from_nothing_s": round(first_s, 1),
        "again_s": round(again_s, 2),
        "ratio": round(first_s / again_s),
    }


def listing(http: httpx.Client) -> dict[str, Any]:
    """Times of both paths, asked in turns, so that the load of the machine is the same for both."""
    times: dict[str, list[float]] = {"/v1/models": [], "/healthz": []}
    for _ in range(NUM_LISTINGS):
        for path, found in times.items():
            found.append(timed(lambda path=path: http.get(path).raise_for_status()))  # type: ignore[misc]
    models, bare = (sorted(found[10:]) for found in times.values())
    return {
        "p50_ms": round(1000 * statistics.median(models), 2),
        "p99_ms": round(1000 * models[int(0.99 * len(models))], 2),
        "healthz_p50_ms": round(1000 * statistics.median(bare), 2),
        "ratio_p50": round(statistics.median(models) / statistics.median(bare), 2),
    }


def train(http: httpx.Client) -> dict[str, Any]:
    runs = [training(http, "model-0") for _ in range(1 + NUM_TRAININGS)]
    outside = [run.outside_steps_s for run in runs]
    warm_s = statistics.median(outside[1:])
    return {
        "outside_steps_cold_s": round(outside[0], 2),
        "outside_steps_warm_s": round(warm_s, 2),
        "step_s": round(statistics.median(run.steps_s / 5 for run in runs[1:]), 2),
        "ratio_cold_to_warm": round(outside[0] / warm_s, 1),
    }


def publish(
    http: httpx.Client,
    model: str = "model-1",
    num_trainings: int = NUM_TRAININGS,
    work: Mapping[str, Any] = WORK,
) -> dict[str, Any]:
    gaps, new, warm = [], [], []
    for _ in range(num_trainings):
        run = training(http, model, work)
        new.append(timed(lambda: first_token(http, model)))
        gaps.append(time.perf_counter() - run.last_step_at)
        warm += [timed(lambda: first_token(http, model)) for _ in range(5)]
    gap_s, new_s, warm_s = (statistics.median(times) for times in (gaps, new, warm))
    return {
        "last_step_to_first_token_s": round(gap_s, 2),
        "new_first_token_s": round(new_s, 3),
        "warm_first_token_s": round(warm_s, 3),
        "new_over_warm_ms": round(1000 * (new_s - warm_s)),
        "ratio": round(gap_s / warm_s, 1),
    }


def training(http: httpx.Client, model: str, work: Mapping[str, Any] = WORK) -> Run:
    """Train `model`. Raises: RuntimeError if the training does not succeed."""
    body = {**work, "model": model, "stream": True}
    start, steps_s, last_step_at = time.perf_counter(), 0.0, 0.0
    events: list[tuple[str, float]] = []
    with http.stream("POST", "/v1/train", json=body) as answer:
        for line in answer.iter_lines():
            chunk = json.loads(line)
            name = f"step {chunk['step']}" if chunk["type"] == "progress" else chunk.get("message")
            events.append((name or chunk["type"], round(time.perf_counter() - start, 3)))
            if chunk["type"] == "progress":
                steps_s += chunk["seconds"]
                last_step_at = time.perf_counter()
    if chunk["type"] != "stop":
        raise RuntimeError(f"the training failed: {chunk}")
    return Run(time.perf_counter() - start, steps_s, last_step_at, tuple(events))


def first_token(http: httpx.Client, model: str) -> None:
    body = {"model": model, "messages": PROMPT, "max_tokens": 1, "stream": True}
    with http.stream("POST", "/v1/generate_response", json=body) as answer:
        next(line for line in answer.iter_lines() if json.loads(line)["type"] in ("delta", "stop"))


def memory_gib(instance: Instance) -> float:
    """The proportional set size of the instance. Shared pages are counted once."""
    return round(sum(pss_by_kind(instance).values()) / 2**30, 2)


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
