from contextlib import ExitStack

import pytest

from registry.errors import RateLimited
from serve_app.api.places import Places


@pytest.fixture
def places() -> Places:
    return Places(lambda: 3, "too many")


def test_each_holder_has_as_many_as_the_limit(places: Places) -> None:
    with ExitStack() as held:
        takes = {name: held.enter_context(places.held_by(name)) for name in ("alice", "bob")}
        takes["alice"](3)
        with pytest.raises(RateLimited, match="too many"):
            takes["alice"](1)
        takes["bob"](3)


def test_all_that_was_taken_is_given_back_however_it_ends(places: Places) -> None:
    for _ in range(5):
        with pytest.raises(RateLimited), places.held_by("alice") as take:
            take(1)
            take(1)
            take(2)
    with places.held_by("alice") as take:
        take(3)


def test_what_others_of_the_same_holder_hold_stays_taken(places: Places) -> None:
    with places.held_by("alice") as first:
        first(2)
        with places.held_by("alice") as second:
            second(1)
        first(1)
        with pytest.raises(RateLimited), places.held_by("alice") as third:
            third(1)


def test_changed_limit_holds_for_the_next_that_is_taken() -> None:
    limits = [2]
    places = Places(lambda: limits[0], "at most {limit}")
    with places.held_by("alice") as take:
        take(2)
        with pytest.raises(RateLimited, match="at most 2"):
            take(1)
        limits[0] = 3
        take(1)
        limits[0] = 1
        with pytest.raises(RateLimited, match="at most 1"):
            take(1)
