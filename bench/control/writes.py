"""Measures changes to a user's models, which are in the bucket when they are answered, and the bare handler.

The bare handler answers a GET with the bytes of such an answer. The two are asked in turns.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.control.calls import call, session, timed
from bench.control.ground import Ground
from bench.control.times import against

NUM_CREATED = 300
NUM_ACTIVATED = 300


def creation(ground: Ground) -> dict[str, Any]:
    """Times of creations. The user's list of models grows meanwhile, from one model to NUM_CREATED + 1."""
    accounts = ground.accounts()
    key = accounts.create("creator", 0)

    def request(number: int) -> tuple[str, dict[str, Any]]:
        body = {"name": f"Model {number}", "description": "", "parent_model": accounts.base.id}
        return "/v1/models", body

    found = asyncio.run(_measure(ground, "creation", key, request, 201, NUM_CREATED))
    return {"models_at_end": NUM_CREATED + 1, **found}


def activation(ground: Ground) -> dict[str, Any]:
    """Times of activations: revisions 1 and 0 of one of ten models, in turns, so that each changes the list.

    An activation changes only the list of models, so the revisions need no weights.
    """
    key = ground.accounts().create("activator", 10, latest_revision=1)

    def request(number: int) -> tuple[str, None]:
        return f"/v1/models/model-0/revisions/{1 - number % 2}/activate", None

    return asyncio.run(_measure(ground, "activation", key, request, 200, NUM_ACTIVATED))


async def _measure(
    ground: Ground,
    name: str,
    key: str,
    request: Callable[[int], tuple[str, dict[str, Any] | None]],
    expected: int,
    num: int,
) -> dict[str, Any]:
    async with session(ground.url) as http:

        def write(number: int) -> Awaitable[bytes]:
            path, body = request(number)
            return call(http, "POST", path, key, body, expected)

        bare = ground.bare(name, await write(0))
        await call(http, "GET", bare)
        times_s: list[float] = []
        bare_s: list[float] = []
        for number in range(1, 1 + num):
            times_s.append(await timed(write(number)))
            bare_s.append(await timed(call(http, "GET", bare)))
    return against(times_s, bare_s)
