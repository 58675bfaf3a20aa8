import pytest

from registry.errors import InvalidApiKey, Unavailable
from registry.keys import hash_key
from serve_app.auth import FRESH_S, MAX_KEY_LENGTH, MAX_KEYS, STALE_S, Authenticator


class Keys:
    """What the Catalog knows, and how often it was asked."""

    def __init__(self) -> None:
        self.users = {hash_key("good"): "alice"}
        self.is_away = False
        self.num_asked = 0

    async def user_of(self, key_hash: str) -> str:
        self.num_asked += 1
        if self.is_away:
            raise Unavailable("storage cannot be reached")
        if key_hash not in self.users:
            raise InvalidApiKey("the API key is not valid")
        return self.users[key_hash]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(keys: Keys, clock: Clock) -> Authenticator:
    return Authenticator(keys.user_of, clock)


@pytest.mark.parametrize("header", ["Bearer good", "bearer good", "BEARER  good "])
async def test_key_belongs_to_its_user(authenticator: Authenticator, header: str) -> None:
    assert await authenticator.user(header) == "alice"


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
        await authenticator.user(header)
    assert keys.num_asked == 0


async def test_unknown_key_is_refused(authenticator: Authenticator) -> None:
    with pytest.raises(InvalidApiKey):
        await authenticator.user("Bearer other")


async def test_known_key_is_not_asked_for_again_while_fresh(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.user("Bearer good")
    clock.now += FRESH_S * 0.9
    await authenticator.user("Bearer good")
    assert keys.num_asked == 1


async def test_revoked_key_is_refused_once_it_is_not_fresh(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.user("Bearer good")
    keys.users.clear()
    clock.now += FRESH_S
    for _ in range(2):
        with pytest.raises(InvalidApiKey):
            await authenticator.user("Bearer good")


async def test_revoked_key_is_not_revived_by_an_outage(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.user("Bearer good")
    keys.users.clear()
    clock.now += FRESH_S
    with pytest.raises(InvalidApiKey):
        await authenticator.user("Bearer good")
    keys.is_away = True
    with pytest.raises(Unavailable):
        await authenticator.user("Bearer good")


async def test_new_key_works_at_once_after_a_refusal(authenticator: Authenticator, keys: Keys) -> None:
    with pytest.raises(InvalidApiKey):
        await authenticator.user("Bearer new")
    keys.users[hash_key("new")] = "bob"
    assert await authenticator.user("Bearer new") == "bob"


async def test_known_key_outlives_an_outage_for_a_while(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.user("Bearer good")
    keys.is_away = True
    clock.now += STALE_S * 0.9
    assert await authenticator.user("Bearer good") == "alice"
    clock.now += STALE_S * 0.1
    with pytest.raises(Unavailable):
        await authenticator.user("Bearer good")


async def test_unknown_key_in_an_outage_is_unavailable(authenticator: Authenticator, keys: Keys) -> None:
    keys.is_away = True
    with pytest.raises(Unavailable):
        await authenticator.user("Bearer good")


async def test_lookup_that_breaks_shows_nothing(clock: Clock) -> None:
    async def broken(key_hash: str) -> str:
        raise RuntimeError("secret")

    with pytest.raises(Exception, match="internal error") as raised:
        await Authenticator(broken, clock).user("Bearer good")
    assert "secret" not in str(raised.value)


async def test_remembered_keys_are_bounded(keys: Keys, clock: Clock) -> None:
    authenticator = Authenticator(keys.user_of, clock)
    keys.users |= {hash_key(f"key-{number}"): "bob" for number in range(MAX_KEYS)}
    await authenticator.user("Bearer good")
    for number in range(MAX_KEYS):
        await authenticator.user(f"Bearer key-{number}")
    asked = keys.num_asked
    await authenticator.user("Bearer good")
    assert keys.num_asked == asked + 1
