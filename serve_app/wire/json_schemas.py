"""Checks JSON Schemas that clients send, in one pass and before any work is done.

    check_schema   size, nesting, counts, keywords, references; RefusedSchema names the place

A schema is read as draft 2020-12. The structured output of the engine (llguidance) enforces each accepted
schema. A keyword that it does not enforce is refused by name. A keyword that no draft knows is an annotation,
as the standard says. The bounds keep the grammar small: its cost grows with the square of the number of
properties of an object, and with counts such as `maxItems`. No function here recurses, because a schema may
be as deep as a body.
"""

from typing import Any

from serve_app.wire.schema_keywords import (
    COUNTS,
    DRAFTS,
    FORMATS,
    LENGTHS,
    NUMBERS,
    REFUSED,
    SCHEMA_LISTS,
    SCHEMA_MAPS,
    TYPES,
    Path,
    required_names,
    subschemas,
)

MAX_SCHEMA_BYTES = 64 * 1024
MAX_TOOLS_BYTES = 128 * 1024
MAX_NESTING = 48
"""The largest number of levels of arrays and objects in the JSON of a schema. vLLM's limit is 64."""
MAX_DEPTH = 150
"""The largest number of levels of schemas inside schemas, also through `$ref`.

llguidance overflows its stack at a thousand.
"""
MAX_SCHEMAS = 2_000
MAX_PROPERTIES = 300
MAX_CHOICES = 1_000
"""The largest number of values in `enum` and `const` of a whole schema."""
MAX_COUNT = 1_000
MAX_TOTAL_COUNT = 4_000
MAX_LENGTH = 65_536
MAX_PATTERN = 512
MAX_NAME = 256
MAX_MULTIPLE = 1_000
MAX_EXACT = 2**53
"""The largest integer that is the same in JavaScript, in Python and in the engine."""

MIN_PROPERTIES = "`minProperties` may be at most 1 or the number of required properties, whichever is larger"
NO_TARGET = "`$ref` must point into this schema, such as `#/$defs/name`, and must not contain `%` or `~`"


class RefusedSchema(Exception):
    """A schema is refused. `path` has the keys and indices from the root of the schema to the place."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(path, message)
        self.path = path
        self.message = message


def check_schema(schema: dict[str, Any]) -> None:
    """Checks a schema. Raises: RefusedSchema."""
    check_size(schema, MAX_SCHEMA_BYTES, "schema")
    places = _Keywords(schema).check()
    _check_references(schema, places)


def check_parameters(schema: dict[str, Any]) -> None:
    """Checks the schema of a tool's arguments, which are an object. Raises: RefusedSchema."""
    check_schema(schema)
    if schema.get("type", "object") != "object":
        raise RefusedSchema(
            ("type",), "`type` must be `object`, because the arguments of a tool are an object"
        )


def check_size(value: Any, max_bytes: int, name: str) -> None:
    """Checks the approximate size of a JSON value, its nesting, and that its text is valid Unicode.

    `name` is the word for the value in the message of an error.

    Raises: RefusedSchema, as soon as a bound is exceeded.
    """
    num_bytes = 0
    todo: list[tuple[Path, Any, int]] = [((), value, 1)]
    while todo:
        path, value, nesting = todo.pop()
        if isinstance(value, dict | list):
            num_bytes += 2 * len(value) + 2  # counted before its parts, of which there may be very many
            if nesting > MAX_NESTING:
                message = (
                    f"the objects and arrays of the {name} are nested more than {MAX_NESTING} levels deep"
                )
                raise RefusedSchema((), message)
        else:
            num_bytes += _text_bytes(path, value) + 2 if isinstance(value, str) else 6
        if num_bytes <= max_bytes and isinstance(value, dict):
            num_bytes += sum(_text_bytes(path, key) + 4 for key in value)
        if num_bytes > max_bytes:
            raise RefusedSchema((), f"the {name} is larger than {max_bytes // 1024} KiB")
        if isinstance(value, dict | list):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            todo += (((*path, key), part, nesting + 1) for key, part in parts)


def _text_bytes(path: Path, text: Any) -> int:
    try:
        return len(str(text).encode())
    except UnicodeEncodeError:
        raise RefusedSchema(path, "the text contains an unpaired surrogate") from None


class _Keywords:
    """A check of all schemas inside a schema, and of all their keywords."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._places: dict[str, Any] = {}
        self._num_choices = 0
        self._count = 0

    def check(self) -> dict[str, Any]:
        """Returns the schemas by the references that point to them."""
        todo: list[tuple[Path, Any]] = [((), self._root)]
        while todo:
            path, schema = todo.pop()
            if not isinstance(schema, dict | bool):
                raise RefusedSchema(path, "a schema must be an object, true or false")
            if not any(sign in str(part) for part in path for sign in "/~%"):
                self._places["/".join(("#", *map(str, path)))] = schema
            if len(self._places) > MAX_SCHEMAS:
                raise RefusedSchema((), f"the schema contains more than {MAX_SCHEMAS} schemas")
            if isinstance(schema, dict):
                for keyword, value in schema.items():
                    self._check(path, keyword, value, schema)
                todo += ((path + place, part) for place, part in subschemas(schema))
        return self._places

    def _check(self, path: Path, keyword: str, value: Any, schema: dict[str, Any]) -> None:
        here = (*path, keyword)
        if keyword in REFUSED or (keyword == "uniqueItems" and value is not False):
            message = f"the keyword `{keyword}` is not supported: the engine does not enforce it"
            raise RefusedSchema(here, message)
        if keyword == "$schema" and (path or value not in DRAFTS):
            raise RefusedSchema(
                here,
                "`$schema` must be at the root of the schema and name a supported draft, such as 2020-12",
            )
        if keyword == "$id" and path:
            raise RefusedSchema(here, "`$id` must be at the root of the schema")
        if keyword in SCHEMA_LISTS and not (isinstance(value, list) and value):
            raise RefusedSchema(here, f"`{keyword}` must be a list of schemas")
        if keyword in SCHEMA_MAPS:
            self._check_map(here, value)
        elif keyword in COUNTS | LENGTHS:
            self._check_count(here, value, schema)
        elif keyword in NUMBERS:
            _check_number(here, value)
        elif keyword in ("const", "enum"):
            self._check_values(here, value)
        elif keyword in ("type", "required", "pattern", "format", "$ref", "items"):
            _check_value(here, value, schema)

    def _check_map(self, here: Path, value: Any) -> None:
        if not isinstance(value, dict):
            raise RefusedSchema(here, f"`{here[-1]}` must be an object of schemas")
        if len(value) > MAX_PROPERTIES:
            raise RefusedSchema(here, f"`{here[-1]}` has more than {MAX_PROPERTIES} entries")
        for name in value:
            if len(name) > MAX_NAME:
                raise RefusedSchema(here, f"a name in `{here[-1]}` has more than {MAX_NAME} characters")
            if here[-1] == "patternProperties" and len(name) > MAX_PATTERN:
                raise RefusedSchema(here, f"a pattern has more than {MAX_PATTERN} characters")

    def _check_count(self, here: Path, value: Any, schema: dict[str, Any]) -> None:
        keyword = str(here[-1])
        most = MAX_LENGTH if keyword in LENGTHS else MAX_COUNT
        if type(value) is not int or not 0 <= value <= most:
            raise RefusedSchema(here, f"`{keyword}` must be an integer from 0 to {most}")
        if keyword in COUNTS:
            self._count += value
            if self._count > MAX_TOTAL_COUNT:
                raise RefusedSchema(
                    here, f"the counts of items and properties sum up to more than {MAX_TOTAL_COUNT}"
                )
        # The engine may write a name that is not in `properties` twice, and would count it twice.
        if keyword == "minProperties" and value > max(1, len(required_names(schema))):
            raise RefusedSchema(here, MIN_PROPERTIES)

    def _check_values(self, here: Path, value: Any) -> None:
        if here[-1] == "enum" and not (isinstance(value, list) and value):
            raise RefusedSchema(here, "`enum` must be a list of values")
        self._num_choices += len(value) if here[-1] == "enum" else 1
        if self._num_choices > MAX_CHOICES:
            raise RefusedSchema(
                here, f"`const` and `enum` have more than {MAX_CHOICES} values in the whole schema"
            )
        todo = [value]
        while todo:
            value = todo.pop()
            if isinstance(value, dict | list):
                todo += value.values() if isinstance(value, dict) else value
            elif isinstance(value, int | float) and not _is_exact(value):
                raise RefusedSchema(here, "numbers beyond 2**53 are not supported")


def _check_number(here: Path, value: Any) -> None:
    if type(value) not in (int, float) or not _is_exact(value):
        raise RefusedSchema(here, f"`{here[-1]}` must be a number between -2**53 and 2**53")
    if here[-1] == "multipleOf" and not 0 < value <= MAX_MULTIPLE:
        raise RefusedSchema(here, f"`multipleOf` must be above 0 and at most {MAX_MULTIPLE}")


def _check_value(here: Path, value: Any, schema: dict[str, Any]) -> None:
    match here[-1]:
        case "type":
            types = value if isinstance(value, list) and value else [value]
            if not all(isinstance(name, str) and name in TYPES for name in types):
                raise RefusedSchema(here, f"`type` must be one or several of {', '.join(sorted(TYPES))}")
        case "required":
            if not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
                raise RefusedSchema(here, "`required` must be a list of names")
            if len(value) > MAX_PROPERTIES or any(len(name) > MAX_NAME for name in value):
                message = (
                    f"`required` may have at most {MAX_PROPERTIES} names of at most {MAX_NAME} characters"
                )
                raise RefusedSchema(here, message)
        case "pattern":
            if not isinstance(value, str) or len(value) > MAX_PATTERN:
                raise RefusedSchema(here, f"`pattern` must be a text of at most {MAX_PATTERN} characters")
        case "format":
            if not isinstance(value, str) or (_may_be_text(schema) and value not in FORMATS):
                raise RefusedSchema(here, f"`format` must be one of {', '.join(sorted(FORMATS))}")
        case "items":
            if isinstance(value, list):
                raise RefusedSchema(
                    here, "`items` must be one schema; use `prefixItems` for a schema per position"
                )
        case _:
            if not isinstance(value, str):
                raise RefusedSchema(here, f"`{here[-1]}` must be a text")


def _is_exact(number: float) -> bool:
    return abs(number) <= MAX_EXACT  # this is False for NaN


def _may_be_text(schema: dict[str, Any]) -> bool:
    types = schema.get("type", "string")
    return "string" in (types if isinstance(types, list) else [types])


def _check_references(root: dict[str, Any], places: dict[str, Any]) -> None:
    """Checks that every reference points to a schema in `places`, and that the schemas are not too deep.

    The order is that of llguidance: keyword by keyword, and into a definition at its first reference.
    """
    seen: set[str] = set()
    todo: list[tuple[Path, Any, int]] = [((), root, 1)]
    while todo:
        path, schema, depth = todo.pop()
        if depth > MAX_DEPTH:
            message = f"schemas are nested more than {MAX_DEPTH} levels deep, `$ref` included"
            raise RefusedSchema(path, message)
        if isinstance(schema, dict):
            todo += reversed([(path + place, part, depth + 1) for place, part in subschemas(schema)])
            target = schema.get("$ref")
            if target is not None:
                if target not in places:
                    raise RefusedSchema((*path, "$ref"), NO_TARGET)
                if target not in seen:
                    seen.add(target)
                    todo.append((path, places[target], depth + 1))
