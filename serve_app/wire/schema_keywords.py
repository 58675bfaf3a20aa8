"""The keywords of JSON Schema: those that the engine enforces, and those that it does not.

subschemas     the schemas directly inside a schema
enforced_part  the part of a checked schema that constrains the answer
"""

from collections.abc import Iterator
from typing import Any

TYPES = {"null", "boolean", "integer", "number", "string", "array", "object"}
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
DRAFTS = {
    f"{prefix}.org/{draft}schema{end}"
    for prefix, draft in (
        ("https://json-schema", "draft/2020-12/"),
        ("https://json-schema", "draft/2019-09/"),
        ("http://json-schema", "draft-07/"),
        ("http://json-schema", "draft-06/"),
    )
    for end in ("", "#")
}

ONE_SCHEMA = {"items", "additionalProperties"}
SCHEMA_LISTS = {"anyOf", "oneOf", "allOf", "prefixItems"}
SCHEMA_MAPS = {"properties", "patternProperties", "$defs", "definitions"}
COUNTS = {"minItems", "maxItems", "minProperties", "maxProperties"}
LENGTHS = {"minLength", "maxLength"}
NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
VALUES = {"const", "enum", "type", "required", "pattern", "format", "$ref"}
ENFORCED = ONE_SCHEMA | SCHEMA_LISTS | SCHEMA_MAPS | COUNTS | LENGTHS | NUMBERS | VALUES

REFUSED = {
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "contains",
    "minContains", "maxContains", "propertyNames", "unevaluatedItems", "unevaluatedProperties",
    "additionalItems", "contentSchema", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef",
    "$recursiveAnchor", "$vocabulary", "x-guidance",
}  # fmt: skip
"""Keywords that a draft knows and the engine does not enforce. The last one sets options of llguidance."""

Path = tuple[str | int, ...]


def subschemas(schema: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yields the schemas directly inside `schema`, each with its path there."""
    for keyword, value in schema.items():
        if keyword in ONE_SCHEMA:
            yield (keyword,), value
        elif keyword in SCHEMA_LISTS:
            yield from (((keyword, index), part) for index, part in enumerate(value))
        elif keyword in SCHEMA_MAPS:
            yield from (((keyword, name), part) for name, part in value.items())


def enforced_part(schema: Any) -> Any:
    """Returns a checked schema without annotations and without keywords that are always fulfilled."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in ONE_SCHEMA:
            kept[keyword] = enforced_part(value)
        elif keyword in SCHEMA_LISTS:
            kept[keyword] = [enforced_part(part) for part in value]
        elif keyword in SCHEMA_MAPS:
            kept[keyword] = {name: enforced_part(part) for name, part in value.items()}
        elif keyword in ENFORCED and not _is_void(keyword, value, schema):
            kept[keyword] = value
    return kept


def _is_void(keyword: str, value: Any, schema: dict[str, Any]) -> bool:
    if keyword == "minProperties":
        return bool(value <= len(required_names(schema)))
    return keyword == "format" and value not in FORMATS


def required_names(schema: dict[str, Any]) -> set[str]:
    names = schema.get("required")
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
