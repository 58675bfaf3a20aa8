import asyncio
from datetime import timedelta

import pytest

from registry.errors import InvalidApiKey, Unavailable
from registry.keys import hash_key
from registry.records import KeyRecord
from serve_app.api.auth import (
    FRESH_S,
    MAX_KEY_LENGTH,
    MAX_KEYS,
    STALE_S,
    Authenticator,
)
from tests.support.known_keys import START, Clock, Keys, user_of


@pytest.mark.parametrize("header", ["Bearer good", "bearer good", "BEARER  good "])
async def test_key_belongs_to_its_user(authenticator: Authenticator, header: str) -> None:
    assert await user_of(authenticator, header) == "alice"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "good",
        "Bearer",
        "Bearer ",
        "Basic good",
        "Bearergood",
        "Bearer " + "x" * (MAX_KEY_LENGTH + 1),
    ],
)
async def test_malformed_header_is_refused_without_a_lookup(
    authenticator: Authenticator, keys: Keys, header: str | None
) -> None:
    with pytest.raises(InvalidApiKey):
        await user_of(authenticator, header)
    assert keys.num_asked == 0


async def test_unknown_key_is_refused(authenticator: Authenticator) -> None:
    with pytest.raises(InvalidApiKey):
        await user_of(authenticator, "Bearer other")


async def test_known_key_is_not_asked_for_again_while_fresh(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await user_of(authenticator, "Bearer good")
    clock.now += FRESH_S * 0.9
    await user_of(authenticator, "Bearer good")
    assert keys.num_asked == 1


async def test_revoked_key_is_refused_once_it_is_not_fresh(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await user_of(authenticator, "Bearer good")
    keys.users.clear()
    clock.now += FRESH_S
    for _ in range(2):
        with pytest.raises(InvalidApiKey):
            await user_of(authenticator, "Bearer good")


async def test_revoked_key_is_not_revived_by_an_outage(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await user_of(authenticator, "Bearer good")
    keys.users.clear()
    clock.now += FRESH_S
    with pytest.raises(InvalidApiKey):
        await user_of(authenticator, "Bearer good")
    keys.is_away = True
    with pytest.raises(Unavailable):
        await user_of(authenticator, "Bearer good")


async def test_new_key_works_at_once_after_a_refusal(authenticator: Authenticator, keys: Keys) -> None:
    with pytest.raises(InvalidApiKey):
        await user_of(authenticator, "Bearer new")
    keys.users[hash_key("new")] = "bob"
    assert await user_of(authenticator, "Bearer new") == "bob"


async def test_known_key_outlives_an_outage_for_a_while(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await user_of(authenticator, "Bearer good")
    keys.is_away = True
    clock.now += STALE_S * 0.9
    assert await user_of(authenticator, "Bearer good") == "alice"
    clock.now += STALE_S * 0.1
    with pytest.raises(Unavailable):
        await user_of(authenticator, "Bearer good")


async def test_unknown_key_in_an_outage_is_unavailable(authenticator: Authenticator, keys: Keys) -> None:
    keys.is_away = True
    with pytest.raises(Unavailable):
        await user_of(authenticator, "Bearer good")


async def test_remembered_key_is_refused_from_the_moment_it_expires(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    keys.expires = START + timedelta(seconds=1)
    await user_of(authenticator, "Bearer good")
    clock.now += 0.9
    assert await user_of(authenticator, "Bearer good") == "alice"
    clock.now += 0.1
    with pytest.raises(InvalidApiKey, match="expired"):
        await user_of(authenticator, "Bearer good")
    assert keys.num_asked == 1


async def test_key_that_expires_in_an_outage_is_refused_and_not_asked_for(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    keys.expires = START + timedelta(seconds=10)
    await user_of(authenticator, "Bearer good")
    keys.is_away = True
    clock.now += 9.9
    assert await user_of(authenticator, "Bearer good") == "alice"
    asked = keys.num_asked
    for later_s in (0.1, FRESH_S, STALE_S * 2):
        clock.now += later_s
        with pytest.raises(InvalidApiKey, match="expired"):
            await user_of(authenticator, "Bearer good")
    assert keys.num_asked == asked


async def test_key_that_expires_while_it_is_asked_for_is_refused(keys: Keys, clock: Clock) -> None:
    async def slow(key_hash: str) -> KeyRecord:
        record = await keys.authenticate(key_hash)
        clock.now += 2
        return record

    keys.expires = START + timedelta(seconds=1)
    with pytest.raises(InvalidApiKey, match="expired"):
        await user_of(Authenticator(slow, clock, clock.time), "Bearer good")


async def test_answer_that_was_long_on_its_way_is_not_fresh_for_longer(keys: Keys, clock: Clock) -> None:
    """A revocation may have come after storage was read and before the answer arrived."""
    sent = asyncio.Event()

    async def slow(key_hash: str) -> KeyRecord:
        record = await keys.authenticate(key_hash)
        await sent.wait()
        return record

    authenticator = Authenticator(slow, clock)
    first = asyncio.create_task(user_of(authenticator, "Bearer good"))
    await asyncio.sleep(0)
    keys.users.clear()
    clock.now += FRESH_S
    sent.set()
    assert await first == "alice"
    with pytest.raises(InvalidApiKey):
        await user_of(authenticator, "Bearer good")


async def test_lookup_that_breaks_shows_nothing(clock: Clock) -> None:
    async def broken(key_hash: str) -> KeyRecord:
        raise RuntimeError("secret")

    with pytest.raises(Exception, match="internal error") as raised:
        await user_of(Authenticator(broken, clock), "Bearer good")
    assert "secret" not in str(raised.value)


async def test_remembered_keys_are_bounded(keys: Keys, clock: Clock) -> None:
    authenticator = Authenticator(keys.authenticate, clock)
    keys.users |= {hash_key(f"key-{number}"): "bob" for number in range(MAX_KEYS)}
    await user_of(authenticator, "Bearer good")
    for number in range(MAX_KEYS):
        await user_of(authenticator, f"Bearer key-{number}")
    asked = keys.num_asked
    await user_of(authenticator, "Bearer good")
    assert keys.num_asked == asked + 1
