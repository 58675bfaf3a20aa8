import json

import pytest

from registry.errors import InvalidRequest
from serve_app.wire.json_bounds import check_json

VALUES = 1000
DEPTH = 50


def check(body: bytes) -> None:
    check_json(body, VALUES, DEPTH)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0",
        json.dumps([0] * (VALUES - 1)).encode(),
        json.dumps({str(number): number for number in range(VALUES - 1)}).encode(),
        json.dumps([{}] * (VALUES // 2 - 1)).encode(),
        b"[" * DEPTH + b"]" * DEPTH,
        (b"[" * (DEPTH - 1) + b"]" * (DEPTH - 1) + b",") * 10,
        json.dumps({"text": "[{,]}" * VALUES}).encode(),
        json.dumps({"text": '\\"[{,' * VALUES, "[,": ["\\", '"', '\\"' * VALUES]}).encode(),
        b"]" * VALUES,
    ],
)
def test_body_within_the_bounds_passes(body: bytes) -> None:
    check(body)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([0] * (VALUES + 1)).encode(),
        json.dumps({str(number): number for number in range(VALUES + 1)}).encode(),
        b"[],".join([b"["] + [b""] * VALUES),
        b'{"a":' * (VALUES + 1),
        json.dumps({"text": '\\"', "list": [0] * VALUES}).encode(),
        json.dumps({"text": "\\", "list": [0] * VALUES}).encode(),
        b'"' * 5 * VALUES + b"," * VALUES,
    ],
)
def test_body_of_too_many_values_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=f"{VALUES} values"):
        check(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * (DEPTH + 1),
        b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
        b'{"a":' * (DEPTH + 1) + b"0" + b"}" * (DEPTH + 1),
        b'{"]]]]]]": "}}}}",' + b'"a":[' * (DEPTH + 1),
    ],
)
def test_body_that_is_too_deep_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=f"{DEPTH} levels"):
        check(body)
