"""Measures GET /v1/models and the bare handler with the same bytes, alone and under load."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession

from bench.control.calls import call, session, timed
from bench.control.ground import Ground
from bench.control.times import against, percentile

PATH = "/v1/models"
SIZES = (0, 10, 1000)
SIZE_ALONE = 10
NUM_WARM = 20
NUM_ALTERNATING = 1000
NUM_CONNECTIONS = 16
NUM_BLOCKS = 4
BLOCK_S = 5.0
SETTLE_S = 10.0


@dataclass(frozen=True)
class Side:
    path: str
    key: str | None = None


@dataclass
class Load:
    """The times of all requests under load, and the seconds during which they were made."""

    times_s: list[float] = field(default_factory=list)
    duration_s: float = 0.0

    def entry(self, prefix: str) -> dict[str, float]:
        p50_s, p99_s = percentile(self.times_s, 50), percentile(self.times_s, 99)
        return {
            f"{prefix}requests_per_s": round(self.requests_per_s, 1),
            f"{prefix}loaded_p50_ms": round(1000 * p50_s, 2),
            f"{prefix}loaded_p99_ms": round(1000 * p99_s, 2),
            f"{prefix}loaded_p99_over_p50": round(p99_s / p50_s, 2),
        }

    @property
    def requests_per_s(self) -> float:
        return len(self.times_s) / self.duration_s


def listing(ground: Ground, num_users: int) -> dict[str, Any]:
    accounts = ground.accounts()
    keys = {size: accounts.create(f"lister-{size}", size) for size in SIZES}
    alone = _row(ground, keys[SIZE_ALONE], SIZE_ALONE, 0)
    accounts.create_others(num_users)
    time.sleep(SETTLE_S)
    among = {size: _row(ground, keys[size], size, num_users) for size in SIZES}
    return {
        "rows": [alone, *among.values()],
        "ratio_p50_among_others_to_alone": round(among[SIZE_ALONE]["p50_ms"] / alone["p50_ms"], 2),
        "ratio_to_bare_among_others_to_alone": round(among[SIZE_ALONE]["ratio_p50"] / alone["ratio_p50"], 2),
    }


def _row(ground: Ground, key: str, num_models: int, num_users: int) -> dict[str, Any]:
    row = asyncio.run(_measure(ground, key, f"listing-{num_models}-of-{num_users}"))
    row = {"private_models": num_models, "other_users": num_users, **row}
    print(
        f"{num_models} models, {num_users} other users: {row['p50_ms']} ms, bare {row['bare_p50_ms']} ms",
        flush=True,
    )
    return row


async def _measure(ground: Ground, key: str, name: str) -> dict[str, Any]:
    async with session(ground.url) as http:
        body = await call(http, "GET", PATH, key)
        sides = ours, bare = Side(PATH, key), Side(ground.bare(name, body))
        if await call(http, "GET", bare.path) != body:
            raise RuntimeError("the bare handler answers with other bytes")
        times_s: dict[Side, list[float]] = {side: [] for side in sides}
        for _ in range(NUM_WARM + NUM_ALTERNATING):
            for side, found in times_s.items():
                found.append(await _time(http, side))
        loads = {side: Load() for side in sides}
        for _ in range(NUM_BLOCKS):
            for side, load in loads.items():
                await _add_block(http, side, load)
    return {
        "bytes": len(body),
        **against(times_s[ours][NUM_WARM:], times_s[bare][NUM_WARM:]),
        **loads[ours].entry(""),
        **loads[bare].entry("bare_"),
        "ratio_requests_per_s": round(loads[ours].requests_per_s / loads[bare].requests_per_s, 2),
    }


async def _time(http: ClientSession, side: Side) -> float:
    return await timed(call(http, "GET", side.path, side.key))


async def _add_block(http: ClientSession, side: Side, load: Load) -> None:
    """Add requests of BLOCK_S to `load`. Each connection asks again as soon as it gets its answer."""
    start = time.perf_counter()

    async def ask() -> None:
        while time.perf_counter() - start < BLOCK_S:
            load.times_s.append(await _time(http, side))

    await asyncio.gather(*(ask() for _ in range(NUM_CONNECTIONS)))
    load.duration_s += time.perf_counter() - start
