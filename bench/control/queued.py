"""Measures how a long queue of trainings slows listings and generations.

    idle       no training runs
    training   one training runs, and shares the processor with everything else
    queued     the same training runs, and a thousand wait

In each state, for STATE_S, one client lists now and then, and another opens one stream after another.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession

from bench.control.calls import call, session, timed
from bench.control.ground import Ground
from bench.control.times import in_ms, percentile, ratio_p50
from bench.temporary_instance import bearer

NUM_QUEUED = 1000
NUM_OWNERS = 20
"""The number of users that share the queued trainings equally, each within the limit of one user."""
NUM_CONNECTIONS = 8
NUM_WARM = 3
STATE_S = 90.0
LISTING_PAUSE_S = 0.05
MAX_TOKENS = 8
START_TIMEOUT_S = 300.0
TRAINING = {
    "model": "model-0",
    "messages": [{"role": "user", "content": "Tell me about the sea."}],
    "responses": [
        {
            "content": f"The sea is {words}, and there is always more of it behind the next wave.",
            "reward": reward,
        }
        for words, reward in (
            ("wide and blue", 1.0),
            ("cold and deep", 0.5),
            ("full of salt", 0.25),
            ("where the rivers go", 0.75),
            ("older than the hills", 0.0),
            ("never quite still", 0.6),
            ("loud at night", 0.1),
            ("grey in winter", 0.4),
        )
    ],
    "learning_steps": 1000,
    "background": True,
}
"""The values of a training. It is so long that the first one outlasts the measurement."""


@dataclass
class State:
    listings_s: list[float] = field(default_factory=list)
    first_tokens_s: list[float] = field(default_factory=list)

    def entry(self) -> dict[str, Any]:
        return {
            "listings": len(self.listings_s),
            **in_ms(self.listings_s, "listing_"),
            "streams": len(self.first_tokens_s),
            "first_token_p50_s": round(percentile(self.first_tokens_s, 50), 3),
            "first_token_max_s": round(max(self.first_tokens_s), 3),
        }


def queued(ground: Ground) -> dict[str, Any]:
    """Times in the three states. The trainings do not end; they are deleted with the instance."""
    accounts = ground.accounts()
    asker = accounts.create("asker", 10)
    runner = accounts.create("runner", 1)
    owners = [accounts.create(f"owner-{number}", 1) for number in range(NUM_OWNERS)]
    return asyncio.run(_measure(ground.url, asker, runner, owners))


async def _measure(url: str, asker: str, runner: str, owners: list[str]) -> dict[str, Any]:
    async with session(url) as http:
        for number in range(NUM_WARM):
            await _first_token(http, asker, f"warm {number}")
        states = {"idle": await _observe(http, asker, "idle")}
        job = await _submit(http, runner)
        await _wait_until_runs(http, runner, job)
        states["training"] = await _observe(http, asker, "training")
        accepting_s = await _enqueue(http, owners)
        print(f"{NUM_QUEUED} trainings accepted in {accepting_s:.1f} s", flush=True)
        states["queued"] = await _observe(http, asker, "queued")
        await _check_queue(http, owners)
        at_end = await _job(http, runner, job)
        if at_end["status"] != "running":
            raise RuntimeError(f"the training was to run all the time: {at_end}")
    with_queue, without = states["queued"], states["training"]
    return {
        "accepted_per_s": round(NUM_QUEUED / accepting_s, 1),
        **{name: state.entry() for name, state in states.items()},
        "ratio_listing_p50": ratio_p50(with_queue.listings_s, without.listings_s),
        "ratio_first_token_p50": ratio_p50(with_queue.first_tokens_s, without.first_tokens_s),
    }


async def _observe(http: ClientSession, key: str, name: str) -> State:
    print(f"{name}: {STATE_S:.0f} s", flush=True)
    state, until = State(), time.perf_counter() + STATE_S

    async def list_models() -> None:
        while time.perf_counter() < until:
            state.listings_s.append(await timed(call(http, "GET", "/v1/models", key)))
            await asyncio.sleep(LISTING_PAUSE_S)

    async def generate() -> None:
        while time.perf_counter() < until:
            content = f"{name} {len(state.first_tokens_s)}"
            state.first_tokens_s.append(await _first_token(http, key, content))

    await asyncio.gather(list_models(), generate())
    return state


async def _first_token(http: ClientSession, key: str, content: str) -> float:
    """The seconds to the first token of a stream that is read to its end. No prefix cache has the prompt.

    Raises: RuntimeError: the stream did not end well.
    """
    messages = [{"role": "user", "content": f"{content}: tell me a story."}]
    body = {"messages": messages, "max_tokens": MAX_TOKENS, "stream": True}
    first_s, last, start = 0.0, b"", time.perf_counter()
    async with http.post("/v1/generate_response", headers=bearer(key), json=body) as answer:
        async for last in answer.content:
            if not first_s and json.loads(last).get("type") in ("delta", "stop"):
                first_s = time.perf_counter() - start
    if answer.status != 200 or json.loads(last or b"{}").get("type") != "stop":
        raise RuntimeError(f"a stream ended badly: {answer.status} {last[:500].decode(errors='replace')}")
    return first_s


async def _submit(http: ClientSession, key: str) -> str:
    """Submit a training; returns the id of its job."""
    job: str = json.loads(await call(http, "POST", "/v1/train", key, TRAINING, 202))["id"]
    return job


async def _job(http: ClientSession, key: str, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await call(http, "GET", f"/v1/jobs/{job}", key))
    return found


async def _wait_until_runs(http: ClientSession, key: str, job: str) -> None:
    """Wait until a job makes its second step: then Ray Train is up, and the slow first step is over."""
    deadline = time.perf_counter() + START_TIMEOUT_S
    while (found := await _job(http, key, job))["step"] < 2:
        if time.perf_counter() > deadline or found["status"] not in ("queued", "running"):
            raise RuntimeError(f"the training does not run: {found}")
        await asyncio.sleep(1)


async def _enqueue(http: ClientSession, owners: list[str]) -> float:
    """Submit the queued trainings; returns the seconds until the last one was accepted."""
    keys = iter(owners * (NUM_QUEUED // len(owners)))

    async def submit_all(keys: Iterator[str]) -> None:
        for key in keys:
            await _submit(http, key)

    start = time.perf_counter()
    await asyncio.gather(*(submit_all(keys) for _ in range(NUM_CONNECTIONS)))
    return time.perf_counter() - start


async def _check_queue(http: ClientSession, owners: list[str]) -> None:
    """Check that all queued trainings wait. Raises: RuntimeError: not all of them wait."""
    pages = [await call(http, "GET", "/v1/jobs?status=queued&limit=100", key) for key in owners]
    num_waiting = sum(len(json.loads(page)) for page in pages)
    if num_waiting != NUM_QUEUED:
        raise RuntimeError(f"{num_waiting} trainings wait, not {NUM_QUEUED}")
