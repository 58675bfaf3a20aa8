"""A caller is presumed good by a key that is stale, until the check that goes on has an answer."""

import asyncio
from contextvars import ContextVar
from datetime import timedelta

import pytest
from ray.exceptions import RayTaskError

from registry.errors import InvalidApiKey
from registry.records import KeyRecord
from serve_app.api.auth import (
    FRESH_S,
    STALE_S,
    Authenticator,
    presented_hash,
)
from tests.support.known_keys import Clock, Keys, caller_of, user_of


async def test_a_stale_key_is_presumed_good_until_it_was_asked_for(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    assert (await caller_of(authenticator, "Bearer good")).check is None, "an unknown key is asked for first"
    assert (await caller_of(authenticator, "Bearer good")).check is None, "a fresh one is not asked for"
    clock.now += FRESH_S
    callers = [await caller_of(authenticator, "Bearer good") for _ in range(2)]
    assert [caller.user for caller in callers] == ["alice", "alice"]
    for caller in callers:
        assert caller.check is not None
        assert (await caller.check()).user == "alice"
    assert keys.num_asked == 2, "requests that come together ask once"
    assert (await caller_of(authenticator, "Bearer good")).check is None, "fresh again"


async def test_a_key_that_was_revoked_is_presumed_good_once(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await user_of(authenticator, "Bearer good")
    keys.users.clear()
    clock.now += FRESH_S
    caller = await caller_of(authenticator, "Bearer good")
    assert caller.check is not None
    with pytest.raises(InvalidApiKey):
        await caller.check()
    with pytest.raises(InvalidApiKey):
        await caller_of(authenticator, "Bearer good")


async def test_a_key_that_was_not_good_a_while_ago_is_a_strangers(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    good = presented_hash("Bearer good")
    assert authenticator.is_stranger(good)
    asking = [asyncio.create_task(authenticator.caller(good)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not authenticator.is_stranger(good), "who comes now waits for the same answer"
    assert [caller.user for caller in await asyncio.gather(*asking)] == ["alice", "alice"]
    assert keys.num_asked == 1
    clock.now += STALE_S * 0.9
    assert not authenticator.is_stranger(good)
    clock.now += STALE_S * 0.1
    assert authenticator.is_stranger(good)


async def test_a_check_that_is_cancelled_is_made_again_for_all_who_wait(keys: Keys, clock: Clock) -> None:
    """Serve cancels the calls of a request when the client of the request goes away."""
    first = asyncio.Event()

    async def lookup(key_hash: str) -> KeyRecord:
        if keys.num_asked == 1:
            keys.num_asked += 1
            first.set()
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        return await keys.authenticate(key_hash)

    authenticator = Authenticator(lookup, clock, clock.time)
    await user_of(authenticator, "Bearer good")
    clock.now += FRESH_S
    callers = [await caller_of(authenticator, "Bearer good") for _ in range(3)]
    checks = [asyncio.ensure_future(caller.check()) for caller in callers if caller.check is not None]
    await first.wait()
    checks[0].cancel()
    answers = await asyncio.gather(*checks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [answer.user for answer in answers[1:] if isinstance(answer, KeyRecord)] == ["alice", "alice"]


async def test_a_check_is_a_part_of_no_request(keys: Keys, clock: Clock) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen = []

    async def lookup(key_hash: str) -> KeyRecord:
        seen.append(request.get())
        return await keys.authenticate(key_hash)

    authenticator = Authenticator(lookup, clock, clock.time)
    request.set("the first")
    await caller_of(authenticator, "Bearer good")
    clock.now += FRESH_S
    caller = await caller_of(authenticator, "Bearer good")
    assert caller.check is not None
    await caller.check()
    assert seen == ["none", "none"]


async def test_what_the_catalog_raised_comes_without_ray_around_it(clock: Clock) -> None:
    async def lookup(key_hash: str) -> KeyRecord:
        cause = InvalidApiKey("the API key is not valid")
        raise RayTaskError("authenticate", "Traceback", cause).as_instanceof_cause()

    with pytest.raises(InvalidApiKey) as raised:
        await user_of(Authenticator(lookup, clock, clock.time), "Bearer good")
    assert raised.value.message == "the API key is not valid"


@pytest.mark.parametrize("age_s", [FRESH_S, STALE_S])
async def test_what_is_known_of_a_key_ends_when_it_expires_or_is_too_old(
    authenticator: Authenticator, keys: Keys, clock: Clock, age_s: float
) -> None:
    keys.expires = clock.time() + timedelta(seconds=age_s)
    await user_of(authenticator, "Bearer good")
    clock.now += age_s
    with pytest.raises(InvalidApiKey):
        await caller_of(authenticator, "Bearer good")
