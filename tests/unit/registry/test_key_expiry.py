"""The texts that are taken as the time at which a key expires."""

from datetime import UTC, datetime

import pytest

from registry.keys import parse_expiry
from registry.records import utc_now


@pytest.mark.parametrize(
    "text", ["2100-01-31T12:00:00Z", "2100-01-31T12:00:00.000+00:00", "2100-01-31T12:00Z"]
)
def test_expiry_is_a_time_in_utc(text: str) -> None:
    assert parse_expiry(text) == datetime(2100, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "ISO 8601"),
        ("", "ISO 8601"),
        ("4102444800", "ISO 8601"),
        ("2100-02-30T00:00:00Z", "ISO 8601"),
        ("2100-01-31", "in UTC"),
        ("2100-01-31T12:00:00", "in UTC"),
        ("2100-01-31T12:00:00+02:00", "in UTC"),
        ("2000-01-31T12:00:00Z", "in the future"),
        ("0001-01-01T00:00:00Z", "in the future"),
    ],
)
def test_expiry_that_is_none_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_expiry(text)


def test_expiry_is_later_than_now() -> None:
    with pytest.raises(ValueError, match="in the future"):
        parse_expiry(utc_now().isoformat())
