"""A listing is asked for every time and sent only when it is another one."""

import json

from serve_app.listing import Listing, Listings, as_array

BASE = b'{"id":"base"}\n'


class FakeCatalog:
    def __init__(self) -> None:
        self.now = Listing("v1", b'{"id":"mine"}\n')
        self.sent: list[str] = []

    async def listing(self, user: str, known: str | None) -> Listing | None:
        if known == self.now.version:
            return None
        self.sent.append(f"{user} {self.now.version}")
        return self.now


async def test_listing_is_sent_once_and_again_when_it_changes() -> None:
    catalog = FakeCatalog()
    listings = Listings(BASE, catalog.listing)
    assert [await listings.lines("alice") for _ in range(3)] == [b'{"id":"base"}\n{"id":"mine"}\n'] * 3
    catalog.now = Listing("v2", b"")
    assert await listings.lines("alice") == BASE
    assert await listings.lines("bob") == BASE
    assert catalog.sent == ["alice v1", "alice v2", "bob v2"]


async def test_listing_that_is_too_long_to_keep_is_still_given() -> None:
    catalog = FakeCatalog()
    listings = Listings(BASE, catalog.listing, max_bytes=100)
    assert await listings.lines("alice") == await listings.lines("alice") == BASE + catalog.now.lines
    assert len(catalog.sent) == 2


def test_lines_are_the_array() -> None:
    assert json.loads(as_array(b'{"a":"x\\ny"}\n{"a":2}\n')) == [{"a": "x\ny"}, {"a": 2}]
    assert as_array(b"") == b"[]"
