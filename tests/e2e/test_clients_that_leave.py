"""Clients that go away while the engine works for them harm no others, and are no error."""

import asyncio
from typing import Any

import httpx

from serve_app.api.auth import FRESH_S
from serve_app.instance import ray_head
from tests.support.system import Client, System

MESSAGES = [{"role": "user", "content": "Count as far as you can."}]
NATIVE = {"messages": MESSAGES, "max_tokens": 200}
OPENAI = {"model": "smollm2-135m", "messages": MESSAGES, "max_tokens": 200}
TEXT = {"model": "smollm2-135m", "prompt": "One, two,", "max_tokens": 200}
RESPONSE = {"model": "smollm2-135m", "input": MESSAGES, "max_output_tokens": 200}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/generate_response", NATIVE),
    ("/v1/generate_response", {**NATIVE, "stream": True}),
    ("/openai/v1/chat/completions", OPENAI),
    ("/openai/v1/chat/completions", {**OPENAI, "stream": True}),
    ("/openai/v1/completions", TEXT),
    (
        "/openai/v1/completions",
        {**TEXT, "prompt": [[1, 2, 3], [4, 5]], "stream": True, "temperature": 0, "n": 2},
    ),
    ("/openai/v1/responses", RESPONSE),
    ("/openai/v1/responses", {**RESPONSE, "stream": True}),
]


def logs_of_replicas(system: System) -> str:
    """The logs of Serve, and the output of the processes, which is vLLM's."""
    directory = ray_head.ray_directory(system.instance.home) / "session_latest" / "logs"
    files = [*sorted(directory.glob("serve/replica_*")), *sorted(directory.glob("worker-*"))]
    assert files
    return "\n".join(path.read_text(errors="replace") for path in files)


async def leave_and_stay(client: Client, seconds: float) -> None:
    """For each kind of call one client goes away after this time, and another one stays and is answered."""
    async with httpx.AsyncClient(
        base_url=client.http.base_url, headers=client.http.headers, timeout=120, trust_env=False
    ) as http:
        leaving = [asyncio.create_task(http.post(path, json=body)) for path, body in CALLS]
        short = {"messages": MESSAGES, "max_tokens": 1}
        staying = [asyncio.create_task(http.post("/v1/generate_response", json=short)) for _ in CALLS]
        await asyncio.wait(leaving, timeout=seconds)
        for call in leaving:
            call.cancel()
        for answer in await asyncio.gather(*staying):
            assert answer.status_code == 200, answer.text


def test_clients_that_leave_take_no_others_with_them_and_are_no_errors(system: System, alice: Client) -> None:
    before = logs_of_replicas(system)
    for seconds in (0.01, 0.04, 0.5):
        alice.get("/v1/models")
        asyncio.run(asyncio.sleep(FRESH_S))  # the key is then asked for again
        asyncio.run(leave_and_stay(alice, seconds))
    alice.greedy("smollm2-135m", "Hello", 1)
    new = [line for line in logs_of_replicas(system).splitlines() if line not in before.splitlines()]
    assert not [line for line in new if " ERROR " in line or "Traceback" in line], "\n".join(new)
