"""The keys that a fake Catalog knows, and a clock, for tests of the authenticator."""

from datetime import UTC, datetime, timedelta

from registry.errors import InvalidApiKey, Unavailable
from registry.keys import hash_key
from registry.records import KeyRecord
from serve_app.api.auth import (
    Authenticator,
    Caller,
    presented_hash,
)

START = datetime(2030, 1, 31, 12, tzinfo=UTC)


class Keys:
    """The keys that the Catalog knows, and the number of times that it was asked."""

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
        """The time of day, which is START in the beginning."""
        return START + timedelta(seconds=self.now - 1000)


async def user_of(authenticator: Authenticator, header: str | None) -> str:
    return (await authenticator.record(presented_hash(header))).user


async def caller_of(authenticator: Authenticator, header: str) -> Caller:
    return await authenticator.caller(presented_hash(header))
