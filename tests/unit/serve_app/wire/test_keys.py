from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.wire.keys import CreateKey

LATER = "2100-01-31T12:00:00Z"


def test_name_is_enough() -> None:
    assert CreateKey.model_validate({"name": "laptop"}).expires is None


@pytest.mark.parametrize("name", ["x", "x" * 64, "ci/build@host", "\u00e9\u4e16"])
def test_name_may_be_anything_printable(name: str) -> None:
    assert CreateKey.model_validate({"name": name}).name == name


def test_expiry_is_a_time() -> None:
    request = CreateKey.model_validate({"name": "laptop", "expires": LATER})
    assert request.expires == datetime(2100, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": 1}, "name"),
        ({"name": None}, "name"),
        ({"name": "x", "colour": "red"}, "colour"),
        ({"name": "x", "user": "bob"}, "user"),
        ({"name": "x", "expires": "soon"}, "expires"),
        ({"name": "x", "expires": "2000-01-31T12:00:00Z"}, "expires"),
        ({"name": "x", "expires": "2100-01-31T12:00:00"}, "expires"),
        ({"name": "x", "expires": "2100-01-31T12:00:00+01:00"}, "expires"),
        ({"name": "x", "expires": "4102444800"}, "expires"),
        ({"name": "x", "expires": 4102444800}, "expires"),
        ({"name": "x", "expires": True}, "expires"),
        ({"name": "x", "expires": [LATER]}, "expires"),
    ],
)
def test_bad_field_is_named(body: Any, field: str) -> None:
    with pytest.raises(ValidationError) as raised:
        CreateKey.model_validate(body)
    assert [error["loc"] for error in raised.value.errors()] == [(field,)]
