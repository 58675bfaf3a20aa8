"""An authenticator over the keys of a fake Catalog."""

import pytest

from serve_app.api.auth import Authenticator
from tests.support.known_keys import Clock, Keys


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(keys: Keys, clock: Clock) -> Authenticator:
    return Authenticator(keys.authenticate, clock, clock.time)
