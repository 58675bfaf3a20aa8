"""A process of an engine dies while it generates: its clients get an error, and the engine is replaced."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest

from serve_app.instance.processes import wait_until
from tests.support.faults import ENGINE, ENGINE_WORKER, PROMPT, REWARDS, Talk, engine_of, model_server, runs
from tests.support.system import Client, System

# On a machine that others use, starting an engine takes minutes.
pytestmark = pytest.mark.timeout(1800)

BASE = "smollm2-135m"
REPLICA = "the replica"
BACK_AFTER_S = 600.0
TOLD_AFTER_S = 8.0
NOTICED_AFTER_S = 5.0
AT_ONCE_S = 10.0  # and not the minute that a new engine takes
LONG = {
    "max_tokens": 900,
    "temperature": 1,
    "messages": [{"role": "user", "content": "Tell me a long story."}],
}


@dataclass
class Ended:
    status: int
    error: dict[str, Any]
    at: float


def error_of(answer: httpx.Response) -> dict[str, Any]:
    answer.read()
    assert "retry-after" in answer.headers, answer.text
    found: dict[str, Any] = answer.json()["error"]
    return found


def ask(client: Client, path: str, model: str) -> Ended:
    answer = client.http.post(path, json={"model": model, **LONG})
    return Ended(answer.status_code, error_of(answer), time.monotonic())


def stream(client: Client, path: str, model: str, on_first: Callable[[], object]) -> Ended:
    """The chunks of a stream, which must end with an error of the contract."""
    with client.http.stream("POST", path, json={"model": model, "stream": True, **LONG}) as answer:
        if answer.status_code != 200:
            on_first()
            return Ended(answer.status_code, error_of(answer), time.monotonic())
        lines: list[str] = []
        for line in answer.iter_lines():
            if line:
                lines.append(line)
                if "delta" in line:
                    on_first()
    at = time.monotonic()
    if path.startswith("/openai"):
        assert lines.pop() == "data: [DONE]"
    return Ended(200, json.loads(lines[-1].removeprefix("data: "))["error"], at)


@pytest.fixture
def learned(alice: Client) -> Client:
    alice.create("Mine")
    alice.train("mine", PROMPT, REWARDS, learning_steps=1)
    return alice


def victim_of(server: psutil.Process, victim: str) -> psutil.Process:
    return server if victim == REPLICA else engine_of(server)[victim]


def num_refused_until_ready(client: Client) -> int:
    """Ask for short answers until `/readyz` is 200 again; each is refused at once, with 503."""
    deadline = time.monotonic() + BACK_AFTER_S
    refused = 0
    while client.http.get("/readyz").status_code == 503:
        assert time.monotonic() < deadline, "the engine did not come back"
        for path in ("/v1/generate_response", "/openai/v1/chat/completions"):
            asked_at = time.monotonic()
            body = {"model": "mine", "messages": LONG["messages"], "max_tokens": 2}
            answer = client.http.post(path, json=body)
            if answer.status_code == 200:  # the engine is back before `readyz` says so
                continue
            assert (answer.status_code, error_of(answer)["code"]) == (503, "unavailable")
            assert time.monotonic() - asked_at < AT_ONCE_S
            refused += 1
        time.sleep(0.2)
    return refused


@pytest.mark.parametrize("victim", [ENGINE, ENGINE_WORKER, REPLICA])
def test_every_open_request_ends_with_an_error_and_the_engine_comes_back(
    system: System, learned: Client, bob: Client, victim: str
) -> None:
    server = model_server(system, BASE)
    before = [server, *engine_of(server).values()]
    assert len(before) == 3
    paths = ("/v1/generate_response", "/openai/v1/chat/completions")
    asked = [(client, path, model) for client, model in ((learned, "mine"), (bob, BASE)) for path in paths]
    began = [threading.Event() for _ in asked]
    expected = learned.greedy("mine", PROMPT, 8)["message"]
    with Talk(bob, "twin"), ThreadPoolExecutor(2 * len(asked)) as pool:
        ends = [pool.submit(ask, *each) for each in asked]
        ends += [pool.submit(stream, *each, event.set) for each, event in zip(asked, began, strict=True)]
        assert all(event.wait(120) for event in began)
        victim_of(server, victim).kill()
        killed_at = time.monotonic()
        assert wait_until(lambda: learned.http.get("/readyz").status_code == 503, NOTICED_AFTER_S)
        for end in (future.result(60) for future in ends):
            assert (end.status in (200, 503), end.error["code"]) == (True, "unavailable"), end
            assert end.at - killed_at < TOLD_AFTER_S, end
        assert wait_until(lambda: not any(map(runs, before)), 20), "orphans"
        assert num_refused_until_ready(learned) > 4
        assert learned.greedy("mine", PROMPT, 8)["message"] == expected
    assert model_server(system, BASE).pid != server.pid
