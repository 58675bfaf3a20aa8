"""Measures how an upload of many examples, its check and the creation of a job slow GET /v1/models.

    idle       nothing happens
    spinning   a program that has nothing to do with the service keeps one core busy
    upload     POST /openai/v1/files; its lines are checked before the answer
    creation   POST /openai/v1/fine_tuning/jobs, which reads the file and checks its lengths before the answer

One client lists models all the time. The states alternate, so that the load of the machine is the same for
all. A job is cancelled as soon as it is queued, and the training that it had begun is not in any state.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, FormData

from bench.control.calls import call, session, timed
from bench.control.ground import Ground
from bench.control.times import in_ms, percentile
from bench.temporary_instance import bearer

NUM_EXAMPLES = 10_000
NUM_TURNS = 8
IDLE_S = 5.0
LISTING_PAUSE_S = 0.01
END_TIMEOUT_S = 120.0
STATES = ("idle", "spinning", "upload", "creation")
FILES, JOBS = "/openai/v1/files", "/openai/v1/fine_tuning/jobs"
FIRST_TRAINING = {
    "model": "model-0",
    "method": "supervised",
    "examples": [
        {"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "It is 2."}]}
    ],
    "learning_steps": 1,
}


def fine_tuning(ground: Ground) -> dict[str, Any]:
    """Times of the listings in each state. A training, which starts Ray Train, and one turn come first."""
    key = ground.accounts().create("teacher", 10)
    return asyncio.run(_measure(ground.url, key))


async def _measure(url: str, key: str) -> dict[str, Any]:
    content = examples(NUM_EXAMPLES)
    listings_s: dict[str, list[float]] = {state: [] for state in STATES}
    steps_s: dict[str, list[float]] = {"upload": [], "creation": []}
    async with session(url) as http:
        await call(http, "POST", "/v1/train", key, FIRST_TRAINING)
        await _turn(http, key, content, {state: [] for state in STATES}, {state: [] for state in STATES})
        for _ in range(NUM_TURNS):
            await _turn(http, key, content, listings_s, steps_s)
    p99_s = {state: percentile(found, 99) for state, found in listings_s.items()}
    return {
        "examples": NUM_EXAMPLES,
        "bytes": len(content),
        "turns": NUM_TURNS,
        **{f"{name}_p50_s": round(percentile(found, 50), 2) for name, found in steps_s.items()},
        **{f"{name}_max_s": round(max(found), 2) for name, found in steps_s.items()},
        **{f"listings_{state}": len(found) for state, found in listings_s.items()},
        **{name: value for state in STATES for name, value in in_ms(listings_s[state], f"{state}_").items()},
        **{f"ratio_p99_{state}": round(p99_s[state] / p99_s["idle"], 2) for state in STATES[1:]},
    }


async def _turn(
    http: ClientSession,
    key: str,
    content: bytes,
    listings_s: dict[str, list[float]],
    steps_s: dict[str, list[float]],
) -> None:
    await _listing_while(asyncio.sleep(IDLE_S), http, key, listings_s["idle"])
    async with _spinning():
        await _listing_while(asyncio.sleep(IDLE_S), http, key, listings_s["spinning"])
    uploading = asyncio.create_task(_upload(http, key, content))
    steps_s["upload"].append(await timed(_listing_while(uploading, http, key, listings_s["upload"])))
    file = uploading.result()
    body = {"model": "model-0", "training_file": file, "hyperparameters": {"n_epochs": 1}}
    creating = asyncio.create_task(call(http, "POST", JOBS, key, body))
    steps_s["creation"].append(await timed(_listing_while(creating, http, key, listings_s["creation"])))
    await _cancel(http, key, json.loads(creating.result())["id"])
    await call(http, "DELETE", f"{FILES}/{file}", key)


@asynccontextmanager
async def _spinning() -> AsyncIterator[None]:
    """A program that computes on one core during the block."""
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        yield
    finally:
        program.kill()
        await program.wait()


async def _listing_while(work: Awaitable[Any], http: ClientSession, key: str, times_s: list[float]) -> None:
    """List models, one request after another, until `work` is done. Raises the error of `work`."""
    working = asyncio.ensure_future(work)
    while not working.done():
        times_s.append(await timed(call(http, "GET", "/v1/models", key)))
        await asyncio.sleep(LISTING_PAUSE_S)
    await working


async def _upload(http: ClientSession, key: str, content: bytes) -> str:
    """Upload a file; returns its id. Raises: RuntimeError: a line of it was refused."""
    form = FormData()
    form.add_field("purpose", "fine-tune")
    form.add_field("file", content, filename="examples.jsonl", content_type="application/jsonl")
    async with http.post(FILES, data=form, headers=bearer(key)) as answer:
        found = await answer.json()
    if found.get("status") != "processed":
        raise RuntimeError(f"the file was not accepted: {found}")
    file: str = found["id"]
    return file


async def _cancel(http: ClientSession, key: str, job: str) -> None:
    """Cancel a job, and wait until it has ended."""
    await call(http, "POST", f"{JOBS}/{job}/cancel", key)
    deadline = time.perf_counter() + END_TIMEOUT_S
    while (found := json.loads(await call(http, "GET", f"{JOBS}/{job}", key)))["status"] != "cancelled":
        if time.perf_counter() > deadline:
            raise RuntimeError(f"the job does not end: {found}")
        await asyncio.sleep(0.5)


def examples(number: int) -> bytes:
    """The content of a file with short examples, which all differ."""
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"What is {index} plus {index % 97}?"},
                    {"role": "assistant", "content": f"It is {index + index % 97}."},
                ]
            }
        )
        for index in range(number)
    ]
    return "\n".join(lines).encode()
