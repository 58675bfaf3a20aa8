"""Measures how a greedy user slows a light one: time to first token, on an instance of its own, in one run.

python -m bench.fairness    (make bench-fairness)

idle         the light user's requests, one after another, while the instance does nothing else
alone        the greedy user keeps `--streams` streams open; after a refusal it waits for the time it was told
beside       the light user's requests while the greedy user has its streams
ratio        the median of `beside` divided by that of `idle`

No prefix cache has the light user's prompts. In the last row, the greedy user has long prompts, which no
prefix cache has, and short answers.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.machine import describe
from bench.temporary_instance import bearer, new_key, quiet, temporary_instance
from serve_app.instance.instance import Instance

NUM_STREAMS = (200, 400, 1000)
NUM_WARM = 5
SETTLE_S = 15.0
ALONE_S = 10.0


@dataclass(frozen=True)
class Kind:
    """A kind of request of the greedy user: the length of its prompt and the most tokens of its answer."""

    name: str
    num_words: int
    max_tokens: int


SHORT = Kind("short", num_words=0, max_tokens=128)
LONG = Kind("long", num_words=1500, max_tokens=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--requests", type=int, default=40, help="requests of the light user in idle, and in beside"
    )
    parser.add_argument(
        "--streams", type=int, nargs="+", default=NUM_STREAMS, help="streams that the greedy user keeps open"
    )
    parser.add_argument("--output", type=Path, default=Path("bench/results/fairness.json"))
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": describe()}
    with temporary_instance() as instance:
        instance.up(quiet)
        kinds = [(number, SHORT) for number in options.streams] + [(options.streams[0], LONG)]
        rows = [asyncio.run(measure(instance, options.requests, number, kind)) for number, kind in kinds]
    report["time_to_first_token"] = rows
    for row in rows:
        print(json.dumps(row))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.output}")


async def measure(instance: Instance, num_requests: int, num_streams: int, kind: "Kind") -> dict[str, Any]:
    async with client(instance, "light") as light, client(instance, "greedy") as greedy:
        run = f"{num_streams} {kind.name} streams"
        for number in range(NUM_WARM):
            await first_token(light, f"warm {run} {number}")
        idle = [await first_token(light, f"idle {run} {number}") for number in range(num_requests)]
        greed = Greed(greedy, kind)
        streams = [asyncio.ensure_future(greed.stream()) for _ in range(num_streams)]
        await asyncio.sleep(SETTLE_S)
        greed.outcomes.clear()
        start, num_tokens = time.perf_counter(), greed.num_tokens
        await asyncio.sleep(ALONE_S)
        alone_per_s = (greed.num_tokens - num_tokens) / (time.perf_counter() - start)
        start, num_tokens = time.perf_counter(), greed.num_tokens
        beside = [await first_token(light, f"beside {run} {number}") for number in range(num_requests)]
        beside_per_s = (greed.num_tokens - num_tokens) / (time.perf_counter() - start)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    return {
        "greedy_streams": num_streams,
        "greedy_prompts": kind.name,
        "requests": num_requests,
        "idle_p50_s": round(statistics.median(idle), 3),
        "idle_max_s": round(max(idle), 3),
        "beside_p50_s": round(statistics.median(beside), 3),
        "beside_max_s": round(max(beside), 3),
        "ratio_p50": round(statistics.median(beside) / statistics.median(idle), 2),
        "greedy_tokens_per_s_alone": round(alone_per_s, 1),
        "greedy_tokens_per_s_beside": round(beside_per_s, 1),
        "greedy_outcomes": dict(greed.outcomes),
    }


def client(instance: Instance, user: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=instance.url,
        headers=bearer(new_key(instance, user)),
        timeout=600,
        trust_env=False,
        limits=httpx.Limits(max_connections=None),
    )


def body(content: str, max_tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{content}: tell me a story."}]
    return {"messages": messages, "max_tokens": max_tokens, "stream": True}


async def first_token(http: httpx.AsyncClient, content: str) -> float:
    start = time.perf_counter()
    async with http.stream("POST", "/v1/generate_response", json=body(content, 1)) as answer:
        async for line in answer.aiter_lines():
            kind = json.loads(line).get("type")
            if kind in ("delta", "stop"):
                return time.perf_counter() - start
            if kind != "info":
                break
    raise RuntimeError(f"the light user was not answered: {answer.status_code}")


class Greed:
    """A user that asks for as much as it can get, and counts its tokens and the statuses of its answers."""

    def __init__(self, http: httpx.AsyncClient, kind: Kind) -> None:
        self.outcomes: Counter[str] = Counter()
        self.num_tokens = 0
        self._http = http
        self._kind = kind
        self._numbers = itertools.count()

    async def stream(self) -> None:
        """Open one stream after another, without end."""
        while True:
            content = f"{next(self._numbers)} greedy {'word ' * self._kind.num_words}"
            request = body(content, self._kind.max_tokens)
            async with self._http.stream("POST", "/v1/generate_response", json=request) as answer:
                self.outcomes[str(answer.status_code)] += 1
                if answer.status_code == 200:
                    async for line in answer.aiter_lines():
                        self.num_tokens += json.loads(line)["type"] == "delta"
            if answer.status_code != 200:
                await asyncio.sleep(float(answer.headers.get("retry-after", 1)))


if __name__ == "__main__":
    main()
