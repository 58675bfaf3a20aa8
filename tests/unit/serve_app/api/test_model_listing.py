"""The lines of a listing."""

import json

from serve_app.api.model_listing import as_array


def test_lines_are_the_array() -> None:
    assert json.loads(as_array(b'{"a":"x\\ny"}\n{"a":2}\n')) == [{"a": "x\ny"}, {"a": 2}]
    assert as_array(b"") == b"[]"
