"""Finds processes of the running system by their titles, kills them, and checks what must hold after that."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from registry.revisions import Revisions
from serve_app import deployment_options
from serve_app.instance.processes import marked_processes, wait_until
from tests.support.system import CALL_TIMEOUT_S, Client, System, training

REPLICA = "ray::ServeReplica:"
"""The replicas of all applications, those of the base models too."""
CORE = f"{REPLICA}{deployment_options.APPLICATION}:"
CATALOG = CORE + deployment_options.CATALOG
INGRESS = CORE + deployment_options.INGRESS
TRAINER = CORE + deployment_options.TRAINER
SERVE_CONTROLLER = "ray::ServeController"
TRAIN_CONTROLLER = "ray::TrainController"
TRAIN_WORKER = "ray::RayTrainWorker"

ENGINE = "VLLM::EngineCore"
ENGINE_WORKER = "VLLM::Worker"

PROMPT = "Pick a number."
REWARDS = {"Seven.": 1.0, "No.": 0.0}
PAUSE_S = 0.5


# Processes


def processes(system: System, title: str) -> list[psutil.Process]:
    """The processes whose titles begin with `title`. Ray adds to a title what the process does just now."""
    return [
        process for process in marked_processes(system.instance.home) if _title(process).startswith(title)
    ]


def find(system: System, title: str) -> list[psutil.Process]:
    """At least one process. It looks several times, since a process that changes its title has none then."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found.extend(processes(system, title))
        return bool(found)

    assert wait_until(is_there, 60), f"no process {title}"
    return found


def send(system: System, signal_number: int, *titles: str) -> list[psutil.Process]:
    """Send a signal to the processes with these titles."""
    found = [process for title in titles for process in find(system, title)]
    for process in found:
        os.kill(process.pid, signal_number)
    return found


def kill(system: System, *titles: str) -> None:
    """Send SIGKILL; returns when the processes are gone."""
    _, alive = psutil.wait_procs(send(system, signal.SIGKILL, *titles), timeout=60)
    assert not alive


def model_server(system: System, base_model: str) -> psutil.Process:
    application = deployment_options.base_model_application(base_model)
    name = deployment_options.model_server_name(base_model)
    (found,) = find(system, f"{REPLICA}{application}:{name}")
    return found


def engine_of(server: psutil.Process) -> dict[str, psutil.Process]:
    """The processes of a replica's engine, by title."""
    children = server.children(recursive=True)
    return {
        title: child
        for title in (ENGINE, ENGINE_WORKER)
        for child in children
        if _title(child).startswith(title)
    }


def runs(process: psutil.Process) -> bool:
    """Return True if the process runs. A process that has ended may still be there as a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_storage(system: System) -> None:
    storage = system.instance.state.storage
    assert storage is not None
    process = psutil.Process(storage.pid)
    process.kill()
    process.wait(60)


def kill_everything(system: System) -> None:
    """Send SIGKILL to every process of the instance: Ray, Serve, vLLM, the training worker, storage."""
    found = marked_processes(system.instance.home)
    assert len(found) > 5
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    kill_storage(system)
    psutil.wait_procs(found, timeout=60)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


# Trainings


def accepted(client: Client, model: str, *steps: int) -> list[str]:
    """Submit a training for each number of steps, in the background; returns the ids of their jobs."""
    bodies = [training(model, PROMPT, REWARDS, learning_steps=each, background=True) for each in steps]
    return [client.post("/v1/train", body, 202)["id"] for body in bodies]


def follow(client: Client, job: str) -> Iterator[dict[str, Any]]:
    """The events of a job, from its first one until it has ended."""
    with client.http.stream("GET", f"/v1/jobs/{job}/events?follow=true") as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            yield json.loads(line)


def reach(events: Iterator[dict[str, Any]], **fields: Any) -> None:
    """Read events up to the first one with these fields."""
    assert any(fields.items() <= event.items() for event in events), f"no event with {fields}"


def assert_ended_once(events: list[dict[str, Any]]) -> None:
    assert [event["type"] for event in events if event["type"] in ("stop", "error")] == ["stop"]
    assert events[-1]["type"] == "stop"


def assert_exactly_once(system: System, client: Client, model: str, jobs: list[str], directory: Path) -> None:
    """Assert that each job made the next complete revision, in the order of acceptance, and nothing else."""
    store, uid = system.instance.store(), system.uid(client, model)
    for revision, job in enumerate(jobs, 1):
        marker = f"jobs-active/{client.user}/{job}"
        assert wait_until(lambda marker=marker: store.list(marker) == [], 60), "its end is not saved"
        record = client.get(f"/v1/jobs/{job}")
        assert (record["status"], record["revision"], record["error"]) == ("succeeded", revision, None)
        events = list(follow(client, job))
        assert_ended_once(events)
        # An attempt continues after the step at which the one before it died, or begins with the first step.
        steps = [event["step"] for event in events if event["type"] == "progress"]
        assert set(steps) == set(range(1, record["steps"] + 1)) and steps[-1] == record["steps"], steps
    assert [job["id"] for job in client.get(f"/v1/jobs?model={model}")] == jobs[::-1]

    published = client.get(f"/v1/models/{model}/revisions")[::-1]
    made = [(each["revision"], each["parent_revision"], each["job"]) for each in published]
    assert made == [(revision, revision - 1, job) for revision, job in enumerate(jobs, 1)]
    keys = []
    for revision, _, _ in made:
        # `fetch` checks the size and the digest of every file.
        manifest = Revisions(store).fetch(uid, revision, directory / f"{uid}-{revision}")
        keys += [
            f"models/{uid}/revisions/{revision:06}/manifest.json",
            *(file.key for file in manifest.files),
        ]
    found = [key for key in store.list(f"models/{uid}/") if not key.endswith("/optimizer.safetensors")]
    assert sorted(found) == sorted(keys)
    detail = client.get(f"/v1/models/{model}")
    assert (detail["revision"], detail["status"]) == (len(jobs), "ready")
    assert client.greedy(model, PROMPT, 4)["revision"] == len(jobs)


# Generation during the faults


class Talk:
    """Asks models the same question in turn, all the time. No request may fail, and no answer may change."""

    def __init__(self, client: Client, *models: str) -> None:
        self._client = client
        # The second answers are expected: then the adapter is loaded and the prompt is cached, as later on.
        self._expected = [[self._ask(model) for model in models] for _ in range(2)][1]
        self._models = models
        self._failures: list[str] = []
        self._num_answers = 0
        self._is_over = threading.Event()
        self._in_flight = threading.Lock()
        self._thread = threading.Thread(target=self._talk, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.go_on()
        finally:
            self._is_over.set()
            self._thread.join(CALL_TIMEOUT_S)
        if kind is None:
            assert not self._failures, self._failures

    def go_on(self) -> None:
        """Wait until every model has answered a request that was sent after this call."""
        enough = self._num_answers + 2 * len(self._models)
        assert wait_until(lambda: self._num_answers >= enough or bool(self._failures), CALL_TIMEOUT_S)
        assert not self._failures, self._failures

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Send no requests during the block."""
        with self._in_flight:
            yield

    def _talk(self) -> None:
        while not self._is_over.wait(PAUSE_S):
            for model, expected in zip(self._models, self._expected, strict=True):
                try:
                    with self._in_flight:
                        answer = self._ask(model)
                    assert answer == expected, f"{answer!r} in place of {expected!r}"
                except Exception as error:
                    self._failures.append(f"{time.strftime('%X')} {model}: {error!r}")
                self._num_answers += 1

    def _ask(self, model: str) -> Any:
        answer = self._client.greedy(model, PROMPT, 8)
        return answer["revision"], answer["message"]
