"""JSON on one line and without spaces."""

import json

import pytest

from registry.json_text import compact_json

VALUE = {"a": [1, None], "text": "\u00e9\n"}


def test_json_has_no_spaces_and_one_line() -> None:
    assert compact_json(VALUE) == '{"a":[1,null],"text":"\u00e9\\n"}'


@pytest.mark.parametrize("ascii_only", [False, True])
def test_json_is_read_as_what_was_written(ascii_only: bool) -> None:
    text = compact_json(VALUE, ascii_only)
    assert json.loads(text) == VALUE
    assert text.isascii() == ascii_only
