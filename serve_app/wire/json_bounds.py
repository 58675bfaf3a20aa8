"""Counts the values of a JSON text and their depth in its bytes, before it is parsed.

Counting costs less than parsing. The cost of parsing depends on the number of values, not of bytes.
"""

from itertools import accumulate

from registry.errors import InvalidRequest

NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def check_json(body: bytes, max_values: int, max_depth: int, name: str = "the body") -> None:
    """Checks the number of values and their depth, without parsing.

    Every value except the first one follows a comma or an opening bracket.
    Raises: InvalidRequest: there are too many values, or they are too deep.
    """
    if num_values(body) <= max_values and _num_opening(body) <= max_depth:
        return
    outside = _outside_strings(body, max_values)
    if outside is None or num_values(outside) > max_values:
        raise InvalidRequest(f"{name} has more than {max_values} values")
    brackets = outside.translate(None, NOT_BRACKETS)
    if max(accumulate(map(STEP.__getitem__, brackets)), default=0) > max_depth:
        raise InvalidRequest(f"{name} has values that lie more than {max_depth} levels deep")


def num_values(text: bytes) -> int:
    return 1 + text.count(b",") + _num_opening(text)


def exact_num_values(text: bytes) -> int:
    """Returns the number of values of a valid JSON text. Commas and brackets inside strings do not count."""
    outside = _outside_strings(text, num_values(text))
    return num_values(text if outside is None else outside)


def _num_opening(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _outside_strings(body: bytes, max_values: int) -> bytes | None:
    """Returns the parts of a JSON text that are outside of strings.

    Returns None if there are more strings than `max_values` values and their names can have.
    """
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    if plain.count(b'"') > 4 * max_values:
        return None
    return b"".join(plain.split(b'"')[::2])
