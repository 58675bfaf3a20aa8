"""The part of a schema that constrains the answer."""

from serve_app.wire.schema_keywords import held


def test_annotations_are_left_out() -> None:
    schema = {"type": "object", "x-order": 1, "discriminator": {"not": 5}, "$comment": "c"}
    assert held(schema) == {"type": "object"}
    assert held({"$id": "urn:x", "default": 1, "const": None}) == {"const": None}


def test_what_is_fulfilled_anyway_is_left_out() -> None:
    schema = {"required": ["a"], "minProperties": 1, "items": {"uniqueItems": False}}
    assert held(schema) == {"required": ["a"], "items": {}}
    assert held({"type": "integer", "format": "int64"}) == {"type": "integer"}
