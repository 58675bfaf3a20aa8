import asyncio
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

import pytest
from ray.exceptions import RayTaskError

from registry.errors import InvalidApiKey, Unavailable
from registry.keys import hash_key
from registry.records import KeyRecord
from serve_app.api.auth import (
    FRESH_S,
    MAX_KEY_LENGTH,
    MAX_KEYS,
    STALE_S,
    Authenticator,
    Caller,
    presented_hash,
)

START = datetime(2030, 1, 31, 12, tzinfo=UTC)


class Keys:
    """What the Catalog knows, and how often it was asked."""

    def __init__(self) -> None:
        self.users = {hash_key("good"): "alice"}
        self.expires: datetime | None = None
        self.is_away = False
        self.num_asked = 0

    async def authenticate(self, key_hash: str) -> KeyRecord:
        self.num_asked += 1
        if self.is_away:
            raise Unavailable("storage cannot be reached")
        if key_hash not in self.users:
            raise InvalidApiKey("the API key is not valid")
        return KeyRecord(
            id="key-0", user=self.users[key_hash], name="key", created=START, expires=self.expires
        )


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def time(self) -> datetime:
        """The time of day; it is START in the beginning."""
        return START + timedelta(seconds=self.now - 1000)


async def user_of(authenticator: Authenticator, header: str | None) -> str:
    return (await authenticator.record(presented_hash(header))).user


async def caller_of(authenticator: Authenticator, header: str) -> Caller:
    return await authenticator.caller(presented_hash(header))


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(keys: Keys, clock: Clock) -> Authenticator:
    return Authenticator(keys.authenticate, clock, clock.time)


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
    """A revocation may have come after storage was read, and before the answer."""
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
    """Serve cancels what a request has called when the request's client goes away."""
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
