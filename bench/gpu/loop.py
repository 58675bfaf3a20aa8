"""Measures the loop of generating, training and generating, over HTTP.

cold           the first training, which starts the run of Ray Train
warm           further trainings: the time outside their steps
publish        from the last step to the first token of the new revision, compared with a warm first token
sleep          with `share_gpu`: the seconds in which the engine fell asleep and woke up, from its log
beside         streams of the base model that another user reads while a training runs: the longest gap
               between two tokens, compared with the median gap. With `share_gpu` a training waits for the
               stream that runs, and the next stream waits for the training; its first token says how long.
"""

import statistics
import time
from typing import Any

from bench.gpu.logs import worker_lines
from bench.gpu.measures import ratio, sleep_times
from bench.gpu.parts import Record
from bench.gpu.reader import StreamReader
from bench.gpu.stage import Stage, create_model, request_of
from bench.path import Run, publish, training

ALONE_S = 2.0
USER = "loop"
READER = "reader"


def measure(stage: Stage, record: Record) -> None:
    scale = stage.scale
    work = request_of(scale.work)
    with stage.client(USER) as http:
        model = create_model(http, stage.base, "Loop")
        cold = training(http, model, work)
        record("cold", times_of(cold))
        runs = [training(http, model, work) for _ in range(scale.num_trainings)]
        record("warm", _warm(runs, cold))
        record("sleep", _sleeps(stage))
        record("publish", publish(http, model, max(scale.num_trainings - 1, 1), work))
        with stage.client(READER) as other:
            record("beside", _beside(http, model, work, StreamReader(other, scale.stream_tokens)))


def times_of(run: Run) -> dict[str, Any]:
    """The times of a training, with the messages and steps of its stream and when each arrived."""
    return {
        "total_s": round(run.total_s, 2),
        "steps_s": round(run.steps_s, 2),
        "outside_steps_s": round(run.outside_steps_s, 2),
        "events": run.events,
    }


def _warm(runs: list[Run], cold: Run) -> dict[str, Any]:
    outside_s = statistics.median(run.outside_steps_s for run in runs)
    return {
        "trainings": len(runs),
        "outside_steps_s": round(outside_s, 2),
        "cold_outside_steps_s": round(cold.outside_steps_s, 2),
        "ratio_cold_to_warm": ratio(cold.outside_steps_s, outside_s),
        "last": times_of(runs[-1]),
    }


def _sleeps(stage: Stage) -> dict[str, Any]:
    found = sleep_times(worker_lines(stage.instance.home))
    return {"share_gpu": stage.base.training.share_gpu, **found}


def _beside(http: Any, model: str, work: dict[str, Any], reader: StreamReader) -> dict[str, Any]:
    with reader:
        alone_from = time.perf_counter()
        time.sleep(ALONE_S)
        start = time.perf_counter()
        run = training(http, model, work)
        end = time.perf_counter()
    return {
        "alone": reader.between(alone_from, start),
        "beside_a_training": reader.between(start, end),
        "training": times_of(run),
        "error": reader.error,
    }
