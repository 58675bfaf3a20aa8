"""The part of a schema that constrains the answer."""

from serve_app.wire.schema_keywords import enforced_part


def test_annotations_are_left_out() -> None:
    schema = {"type": "object", "x-order": 1, "discriminator": {"not": 5}, "$comment": "c"}
    assert enforced_part(schema) == {"type": "object"}
    assert enforced_part({"$id": "urn:x", "default": 1, "const": None}) == {"const": None}


def test_what_is_fulfilled_anyway_is_left_out() -> None:
    schema = {"required": ["a"], "minProperties": 1, "items": {"uniqueItems": False}}
    assert enforced_part(schema) == {"required": ["a"], "items": {}}
    assert enforced_part({"type": "integer", "format": "int64"}) == {"type": "integer"}
