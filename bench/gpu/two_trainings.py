"""Measures two trainings of two users on one base model: at once, and one after the other."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from bench.gpu.measures import ratio
from bench.gpu.parts import Record
from bench.gpu.stage import Stage, create_model, request_of
from bench.path import training

USERS = ("first", "second")


def measure(stage: Stage, record: Record) -> None:
    work = request_of(stage.scale.long_work)
    with stage.client(USERS[0]) as first, stage.client(USERS[1]) as second:
        clients = (first, second)
        models = [create_model(http, stage.base, "Two trainings") for http in clients]
        training(first, models[0], request_of(stage.scale.work))  # starts the run, if it is not up
        one_by_one = _one_by_one(clients, models, work)
        record("one after the other", one_by_one)
        at_once = _at_once(clients, models, work)
        record("at once", at_once)
        record("ratio_of_totals", ratio(at_once["total_s"], one_by_one["total_s"]))


def _one_by_one(clients: tuple[httpx.Client, ...], models: list[str], work: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    finishes = []
    for http, model in zip(clients, models, strict=True):
        training(http, model, work)
        finishes.append(time.perf_counter() - start)
    return _finished(finishes)


def _at_once(clients: tuple[httpx.Client, ...], models: list[str], work: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()

    def finish(http: httpx.Client, model: str) -> float:
        training(http, model, work)
        return time.perf_counter() - start

    pool = ThreadPoolExecutor(len(clients))
    try:
        return _finished(list(pool.map(finish, clients, models)))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # at the end of the time, nobody waits for a training


def _finished(finishes_s: list[float]) -> dict[str, Any]:
    """The time to the end of each training since the start of both, and the total time."""
    return {
        "total_s": round(max(finishes_s), 2),
        "finished_after_s": [round(finish, 2) for finish in finishes_s],
    }
