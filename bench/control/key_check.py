"""Measures the check of a key: the same cheap GET with keys of three kinds, and the bare handler."""

import asyncio
import secrets
from typing import Any

from bench.control.calls import call, session, timed
from bench.control.ground import Ground
from bench.control.times import against

PATH = "/v1/models"
USER = "key-holder"
NUM_WARM = 10
NUM_ROUNDS = 300


def key_check(ground: Ground) -> dict[str, Any]:
    """Times with three kinds of keys.

    `first_use`: this ingress sees the key for the first time; `known`: the key was just used; `unknown`: the
    key does not exist and is refused with 401.
    """
    accounts = ground.accounts()
    keys = [accounts.create_key(USER) for _ in range(NUM_WARM + NUM_ROUNDS)]
    return asyncio.run(_measure(ground, keys))


async def _measure(ground: Ground, keys: list[str]) -> dict[str, Any]:
    times_s: dict[str, list[float]] = {"first_use": [], "known": [], "unknown": []}
    bare_s: list[float] = []
    async with session(ground.url) as http:
        bare = ground.bare("key-check", await call(http, "GET", PATH, keys[0]))
        for key in keys:
            times_s["first_use"].append(await timed(call(http, "GET", PATH, key)))
            times_s["known"].append(await timed(call(http, "GET", PATH, key)))
            stranger = f"tiger_{secrets.token_urlsafe(32)}"
            times_s["unknown"].append(await timed(call(http, "GET", PATH, stranger, expected=401)))
            bare_s.append(await timed(call(http, "GET", bare)))
    return {name: against(found[NUM_WARM:], bare_s[NUM_WARM:]) for name, found in times_s.items()}
