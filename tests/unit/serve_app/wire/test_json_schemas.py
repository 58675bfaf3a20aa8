"""Schemas that are accepted, and schemas that are refused with the named place."""

import copy
import random
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from serve_app.wire.json_schemas import (
    MAX_NESTING,
    MAX_SCHEMA_BYTES,
    RefusedSchema,
    check_parameters,
    check_schema,
    check_size,
)
from serve_app.wire.schema_keywords import REFUSED, Path, enforced_part, subschemas
from tests.support.schemas import HEAVY, REFUSED_AT_SIGHT, REFUSED_BY_COMPILING, RandomSchemas, nested

NUM_RANDOM = 300


def refused_at(schema: Any) -> Path | None:
    try:
        check_schema(schema)
    except RefusedSchema as error:
        return error.path
    return None


@pytest.mark.parametrize("name", [*HEAVY, *REFUSED_BY_COMPILING])
def test_what_only_compiling_can_tell_is_taken(name: str) -> None:
    schema = HEAVY.get(name) or REFUSED_BY_COMPILING[name]
    assert refused_at(schema) is None


@pytest.mark.parametrize("name", REFUSED_AT_SIGHT)
def test_refused_by_its_place(name: str) -> None:
    schema, place = REFUSED_AT_SIGHT[name]
    path = refused_at(schema)
    assert path is not None and ".".join(map(str, path)) == place


def test_random_schemas_are_taken_and_valid() -> None:
    for seed in range(NUM_RANDOM):
        schema = RandomSchemas(seed).schema()
        assert refused_at(schema) is None, schema
        Draft202012Validator.check_schema(schema)
        Draft202012Validator.check_schema(enforced_part(schema))
        assert refused_at(enforced_part(schema)) is None
        assert enforced_part(enforced_part(schema)) == enforced_part(schema)


def places_of(schema: Any) -> list[Path]:
    """All schemas inside of a schema that are objects."""
    found: list[Path] = []
    todo: list[tuple[Path, Any]] = [((), schema)]
    while todo:
        path, part = todo.pop()
        if isinstance(part, dict):
            found.append(path)
            todo += ((path + place, inner) for place, inner in subschemas(part))
    return found


def test_whatever_is_wrong_is_named_wherever_it_is() -> None:
    wrong: list[tuple[str, Any]] = [
        *((keyword, True) for keyword in sorted(REFUSED)),
        ("uniqueItems", True), ("$id", "x"), ("$schema", "x"), ("type", 5), ("type", []), ("enum", []),
        ("enum", 5), ("anyOf", []), ("allOf", {}), ("properties", []), ("required", "a"), ("required", [1]),
        ("minItems", -1), ("maxItems", 1.5), ("maxItems", True), ("minLength", 10**9), ("maximum", "1"),
        ("minimum", float("nan")), ("minimum", float("inf")), ("multipleOf", 0), ("multipleOf", 10**6),
        ("pattern", 5), ("format", 5), ("$ref", 5), ("$ref", "#/"), ("$ref", "other.json"), ("$ref", "#a"),
        ("const", 10**30), ("items", [{}]), ("minProperties", 9), ("$schema", []),
    ]  # fmt: skip
    for seed in range(NUM_RANDOM):
        dice = random.Random(seed)
        schema = copy.deepcopy(RandomSchemas(seed).schema())
        place = dice.choice([place for place in places_of(schema) if place or seed % 3])
        part = schema
        for key in place:
            part = part[key]
        keyword, value = wrong[seed % len(wrong)]
        if keyword in ("$id",) and not place:
            continue
        if keyword == "minProperties":
            part.pop("required", None)
        part[keyword] = value
        assert refused_at(schema) == (*place, keyword), (keyword, value)


def test_unknown_keywords_are_annotations() -> None:
    schema = {
        "type": "object",
        "x-order": 1,
        "discriminator": {"not": 5},
        "deprecated": True,
        "$comment": "c",
    }
    assert refused_at(schema) is None
    assert enforced_part(schema) == {"type": "object"}
    named = {"type": "object", "properties": {"not": {"type": "string", "if": 5}}}
    assert refused_at(named) == ("properties", "not", "if")
    given = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "urn:x",
        "default": 1,
        "const": None,
    }
    assert refused_at(given) is None
    assert enforced_part(given) == {"const": None}


def test_what_holds_anyway_is_left_out() -> None:
    schema = {"required": ["a"], "minProperties": 1, "items": {"uniqueItems": False}}
    assert enforced_part(schema) == {"required": ["a"], "items": {}}
    assert enforced_part({"type": "integer", "format": "int64"}) == {"type": "integer"}
    assert refused_at({"type": ["integer", "string"], "format": "int64"}) == ("format",)


def test_references_lead_to_schemas_only() -> None:
    inside = {"$defs": {"a": {"enum": [{"type": "string"}]}, "b/c": {}, "d~1e": {}}, "default": {}}
    for target in ("#/default", "#/$defs", "#/$defs/a/enum/0", "#/$defs/b/c", "#/$defs/b~1c", "#/$defs/d~1e"):
        assert refused_at({**inside, "$ref": target}) == ("$ref",), target
    assert refused_at({**inside, "$ref": "#/$defs/a"}) is None
    assert refused_at({"anyOf": [{"type": "null"}, {"$ref": "#/anyOf/0"}]}) is None


def test_text_is_unicode_and_numbers_are_numbers() -> None:
    schemas: tuple[Any, ...] = (
        {"title": "\ud800"},
        {"properties": {"\udc00": {}}},
        {"enum": [{"a": ["\ud800"]}]},
    )
    for schema in schemas:
        with pytest.raises(RefusedSchema, match="surrogate"):
            check_schema(schema)
    assert refused_at({"enum": [1, {"a": [2**60]}]}) == ("enum",)
    assert refused_at({"default": 2**60}) is None
    for keyword in ("minimum", "maximum", "const"):
        assert refused_at({"type": "integer", keyword: 10**400}) == (keyword,)


def test_arguments_of_a_tool_are_an_object() -> None:
    check_parameters({})
    check_parameters({"type": "object"})
    for kind in ("array", ["object", "null"]):
        with pytest.raises(RefusedSchema) as error:
            check_parameters({"type": kind})
        assert error.value.path == ("type",)


def test_nothing_recurses_and_nothing_takes_long() -> None:
    """These schemas are as deep and as large as a body can be, and larger."""
    wide = {"anyOf": [{"enum": [0] * 100} for _ in range(10_000)]}
    many = {"properties": {f"p{i}": {"type": "string"} for i in range(100_000)}}
    started = time.process_time()
    for schema in (nested(100_000), wide, many, {"enum": [0] * 1_000_000}, {"enum": ["x" * 10_000_000]}):
        assert refused_at(schema) == ()
    for schema in HEAVY.values():
        check_schema(schema)
    assert time.process_time() - started < 2
    listed: Any = []
    for _ in range(100_000):
        listed = [listed]
    with pytest.raises(RefusedSchema):
        check_size(listed, MAX_SCHEMA_BYTES, "schema")
    assert refused_at(nested((MAX_NESTING - 2) // 2)) is None
    assert refused_at(nested(MAX_NESTING // 2)) == ()


def test_message_names_what_is_too_large() -> None:
    with pytest.raises(RefusedSchema) as error:
        check_size(["x" * 2048], 1024, "list of tools")
    assert error.value.message == "the list of tools is larger than 1 KiB"


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("not", {}, "the keyword `not` is not supported: the engine does not enforce it"),
        (
            "minProperties",
            2,
            "`minProperties` may be at most 1 or the number of required properties, whichever is larger",
        ),
        ("items", [{}], "`items` must be one schema; use `prefixItems` for a schema per position"),
    ],
)
def test_message_says_what_to_do(keyword: str, value: Any, message: str) -> None:
    with pytest.raises(RefusedSchema) as error:
        check_schema({keyword: value})
    assert error.value.message == message
