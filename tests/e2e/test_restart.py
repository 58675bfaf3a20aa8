"""Everything killed at once, and started again: what was accepted happens, what was there is there."""

import os
import signal

import httpx
import psutil

from serve_app.processes import marked_processes
from tests.support.system import Client, System, training

PROMPT = "Pick a number."
REWARDS = {"Seven.": 1.0, "No.": 0.0}


def kill_everything(system: System) -> None:
    """SIGKILL to every process of the instance: Ray, Serve, vLLM, the trainer, storage."""
    processes = marked_processes(system.instance.home)
    storage = system.instance.state.storage
    assert storage is not None and len(processes) > 5
    for process in [*processes, psutil.Process(storage.pid)]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    psutil.wait_procs(processes, timeout=30)


def test_nothing_is_lost_when_everything_dies(system: System, alice: Client) -> None:
    alice.create("Survivor", temperature=0.3)
    alice.create("Other", parent="twin")
    alice.train("survivor", PROMPT, REWARDS, learning_steps=1)
    spoken = alice.greedy("survivor", PROMPT, 8)
    background = {"learning_steps": 3, "background": True}
    jobs = [
        alice.post("/v1/train", training(model, PROMPT, REWARDS, **background), 202)["id"]
        for model in ("survivor", "survivor", "other")
    ]
    with alice.http.stream("GET", f"/v1/jobs/{jobs[0]}/events?follow=true") as events:
        for line in events.iter_lines():
            if '"progress"' in line:
                break
        listing = alice.get("/v1/models")
        kill_everything(system)
    try:
        alice.http.get("/healthz", timeout=5)
        raise AssertionError("something still answers")
    except httpx.HTTPError:
        pass

    system.instance.up(lambda line: None)
    assert [model["id"] for model in alice.get("/v1/models")] == [model["id"] for model in listing]
    for job in jobs:
        alice.http.get(f"/v1/jobs/{job}/events?follow=true").read()
    done = {job: alice.get(f"/v1/jobs/{job}") for job in jobs}
    assert [done[job]["status"] for job in jobs] == ["succeeded"] * 3, done
    assert [done[job]["revision"] for job in jobs] == [2, 3, 1]
    assert alice.get("/v1/models/survivor")["revision"] == 3
    revisions = alice.get("/v1/models/survivor/revisions")
    assert [(r["revision"], r["job"]) for r in revisions[:2]] == [(3, jobs[1]), (2, jobs[0])]
    assert alice.greedy("survivor@1", PROMPT, 8)["message"] == spoken["message"]
