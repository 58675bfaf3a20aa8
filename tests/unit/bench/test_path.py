import json
from typing import Any

import httpx
import pytest

from bench.path import WORK, training

PROGRESS: list[dict[str, Any]] = [
    {"type": "progress", "step": step, "steps": 2, "seconds": 0.25} for step in (1, 2)
]
STREAM: list[dict[str, Any]] = [
    {"type": "info", "message": "Queued"},
    *PROGRESS,
    {"type": "info", "message": "Publishing revision 1"},
    {"type": "stop", "revision": 1},
]


def client(asked: list[Any], chunks: list[dict[str, Any]]) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, content="".join(json.dumps(chunk) + "\n" for chunk in chunks))

    return httpx.Client(base_url="http://tiger", transport=httpx.MockTransport(answer))


def test_times_of_a_training_come_from_its_stream() -> None:
    asked: list[Any] = []
    run = training(client(asked, STREAM), "model-0", {"groups": [], "learning_steps": 2})
    assert asked == [{"groups": [], "learning_steps": 2, "model": "model-0", "stream": True}]
    assert [name for name, _ in run.events] == ["Queued", "step 1", "step 2", "Publishing revision 1", "stop"]
    assert run.steps_s == 0.5
    assert run.outside_steps_s == run.total_s - 0.5
    arrivals = [at_s for _, at_s in run.events]
    assert arrivals == sorted(arrivals)


def test_training_that_fails_is_an_error() -> None:
    failed: list[dict[str, Any]] = [*STREAM[:2], {"type": "error", "error": {"message": "out of memory"}}]
    with pytest.raises(RuntimeError, match="out of memory"):
        training(client([], failed), "model-0", WORK)
