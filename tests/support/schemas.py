"""JSON Schemas that need as much work as is allowed, and schemas that are refused, with the named place."""

import random
from typing import Any


def properties(number: int, **schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {f"property_{i}": schema for i in range(number)}}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def chain(length: int, step: str = "a") -> dict[str, Any]:
    """A schema whose definitions refer to each other, in a chain."""
    links = {
        f"d{i}": {"type": "object", "properties": {step: {"$ref": f"#/$defs/d{i + 1}"}}, "required": [step]}
        for i in range(length)
    }
    return {"$defs": {**links, f"d{length}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


def doubling(length: int) -> dict[str, Any]:
    """A schema of definitions, each of which doubles the work of a program that intersects them."""
    pair = {"l": {"maxProperties": 9}, "r": {"maxProperties": 9}}
    links = {
        f"d{i}": {
            "allOf": [
                {"type": "object", "properties": {side: {"$ref": f"#/$defs/d{i + 1}"} for side in "lr"}},
                {"properties": pair},
            ]
        }
        for i in range(length)
    }
    return {"$defs": {**links, f"d{length}": {"type": "object"}}, "$ref": "#/$defs/d0"}


HEAVY: dict[str, dict[str, Any]] = {
    "many optional properties": {**properties(300, type="string"), "additionalProperties": False},
    "optional properties and any others": properties(300, type="integer"),
    "long lists": {
        "type": "object",
        "properties": {
            f"list_{i}": {"type": "array", "items": {"type": "integer"}, "maxItems": 1_000} for i in range(4)
        },
    },
    "many values": {"enum": [f"value number {i}" for i in range(1_000)]},
    "many branches": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": i}, "text": {"type": "string"}},
                "required": ["kind"],
            }
            for i in range(200)
        ]
    },
    "formats": {**properties(40, type="string", format="uri"), "required": ["property_39"]},
    "patterns": properties(100, type="string", pattern="^[a-z]{1,40}(-[a-z]{1,40}){0,9}$"),
    "long text": {"type": "string", "minLength": 2_000, "maxLength": 65_536},
    "a chain of definitions": chain(70),
    "a tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "nodes": {"type": "array", "items": {"$ref": "#"}},
                },
                "required": ["name", "nodes"],
            }
        },
        "$ref": "#/$defs/node",
    },
}
"""Schemas that are accepted and need the most work."""

REFUSED_AT_SIGHT: dict[str, tuple[dict[str, Any], str]] = {
    "counted properties": ({**properties(220, type="integer"), "minProperties": 110}, "minProperties"),
    "size": ({"type": "object", "description": "x" * 2_800_000}, ""),
    "a list of small things": ({"enum": [0] * 200_000}, ""),
    "depth": (nested(400), ""),
    "definitions too deep": (chain(1_000), ""),
    "a reference to a URL": ({"$ref": "http://127.0.0.1:1/schema.json"}, "$ref"),
    "a reference to a file": ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "properties.a.$ref"),
    "a reference to nothing": ({"$ref": "#/$defs/absent"}, "$ref"),
    "an identity inside": ({"properties": {"a": {"$id": "http://127.0.0.1:1/"}}}, "properties.a.$id"),
    "an anchor": ({"$anchor": "here"}, "$anchor"),
    "a moving reference": ({"$dynamicRef": "#here"}, "$dynamicRef"),
    "not": ({"not": {"type": "string"}}, "not"),
    "if": ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, "if"),
    "a set": ({"items": {"type": "array", "uniqueItems": True}}, "items.uniqueItems"),
    "orders for llguidance": ({"type": "object", "x-guidance": {"lenient": True}}, "x-guidance"),
    "too many items": ({"type": "array", "minItems": 1_000_000}, "minItems"),
    "a large step": ({"type": "integer", "multipleOf": 999_983}, "multipleOf"),
    "a number that is not exact": ({"type": "integer", "maximum": 2**63}, "maximum"),
    "an unknown type": ({"type": "nonsense"}, "type"),
    "an unknown format": ({"type": "string", "format": "iri"}, "format"),
    "items of a tuple, the old way": ({"items": [{"type": "string"}]}, "items"),
    "a long pattern": ({"pattern": "a" * 1_000}, "pattern"),
    "no schema": ({"properties": {"a": 5}}, "properties.a"),
}
"""Schemas that the ingress refuses, with the place inside the schema that its error names."""

REFUSED_BY_COMPILING: dict[str, dict[str, Any]] = {
    "steps whose multiple is large": {"allOf": [{"type": "integer", "multipleOf": n} for n in (997, 991)]},
    "definitions that double": doubling(20),
    "a pattern with too many states": {"type": "string", "pattern": ".*a.{200}"},
    "a pattern that is none": {"type": "string", "pattern": "("},
    "a pattern that looks around": {"type": "string", "pattern": "(?=a)b"},
    "branches that are all alike": {"anyOf": [properties(2, maximum=i) for i in range(200)]},
    "only itself": {"$ref": "#"},
    "no value": {"type": "integer", "minimum": 5, "maximum": 3},
    "one of several that overlap": {"oneOf": [{"type": "string"}, {"type": ["string", "integer"]}]},
}
"""Schemas that the replica's compiling process refuses. The engine sees none of them."""


PATTERNS = [
    "^[a-z]*$", "^a|b$", "[0-9]", "^(ab|c)*$", "^[^x]*$", "e", r"^\d*$", r"^\w*$", "^.*$", r"^\S*$", r"\.",
    "a{2,3}", r"^[\w-]+$", "^\u00e4", r"^\u0061", "(a|b)c?$",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 7, -3, 2.5, "", "text", "\"'\\/\n\u00e9\U0001f600", [], [1, "a"], {"k": None},
]  # fmt: skip
FORMATS = ["date", "time", "date-time", "uuid", "ipv4"]
NAMES = ["a", "b", "name", "two words", 'qu"ote', "\u00fc", "a/b", "c~d"]


class RandomSchemas:
    """Makes schemas with every enforced keyword, so small that an answer can be completed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def schema(self, depth: int = 0) -> Any:
        kinds = [self._text, self._number, self._integer, self._enum, self._const, self._format]
        if depth < 3:
            kinds += [self._object, self._object, self._array, self._tuple]
            kinds += [self._any_of, self._all_of, self._map]
        if depth == 0:
            kinds = [self._object, self._array, self._tree, self._all_of, self._any_of, self._shared]
        made = self._dice.choice(kinds)(depth + 1)
        return {"title": "Of no meaning", **made} if self._dice.random() < 0.1 else made

    def _text(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "string", "maxLength": self._dice.randrange(3, 9)}
        if self._dice.random() < 0.5:
            made["minLength"] = self._dice.randrange(3)
        if self._dice.random() < 0.5:
            made["pattern"] = self._dice.choice(PATTERNS)
        return made

    def _format(self, depth: int) -> dict[str, Any]:
        return {"type": "string", "format": self._dice.choice(FORMATS)}

    def _integer(self, depth: int) -> dict[str, Any]:
        low = self._dice.randint(-300, 300)
        made = {"type": "integer", "minimum": low, "maximum": low + self._dice.randint(20, 500)}
        if self._dice.random() < 0.3:
            made["multipleOf"] = self._dice.randint(1, 9)
        if self._dice.random() < 0.2:
            made["exclusiveMinimum"] = made.pop("minimum")
        return made

    def _number(self, depth: int) -> dict[str, Any]:
        low = round(self._dice.uniform(-20, 20), 2)
        high = round(low + self._dice.uniform(1, 30), 2)
        return {"type": "number", "minimum": low, "exclusiveMaximum": high}

    def _enum(self, depth: int) -> dict[str, Any]:
        return {"enum": self._dice.sample(VALUES, self._dice.randint(1, 4))}

    def _const(self, depth: int) -> dict[str, Any]:
        return {"const": self._dice.choice(VALUES)}

    def _object(self, depth: int) -> dict[str, Any]:
        names = self._dice.sample(NAMES, 3)
        made: dict[str, Any] = {
            "type": "object",
            "properties": {name: self.schema(depth) for name in names},
            "required": self._dice.sample(names, self._dice.randrange(4)),
            "additionalProperties": False,
        }
        if self._dice.random() < 0.3:
            made["minProperties"] = len(made["required"])
        return made

    def _map(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "object", "maxProperties": 2}
        if self._dice.random() < 0.5:
            return {**made, "minProperties": 1, "additionalProperties": self.schema(depth)}
        patterns = {"^x": self.schema(depth), "^y": self.schema(depth)}
        return {**made, "patternProperties": patterns, "additionalProperties": False}

    def _array(self, depth: int) -> dict[str, Any]:
        least = self._dice.randrange(3)
        most = least + self._dice.randrange(3)
        return {"type": "array", "items": self.schema(depth), "minItems": least, "maxItems": most}

    def _tuple(self, depth: int) -> dict[str, Any]:
        parts = [self.schema(depth) for _ in range(2)]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": self._dice.randrange(3)}

    def _any_of(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self.schema(depth) for _ in range(2)]}

    def _all_of(self, depth: int) -> dict[str, Any]:
        return {
            "allOf": [
                {"type": "object", "properties": {name: self.schema(depth)}, "required": [name]}
                for name in ("left", "right")
            ],
            "properties": {"left": True, "right": True},
            "additionalProperties": False,
        }

    def _shared(self, depth: int) -> dict[str, Any]:
        made = self._object(depth)
        made["properties"]["again"] = {"$ref": "#/$defs/part", "description": "Of no meaning."}
        made["required"] = [*made["required"], "again"]
        return {**made, "$defs": {"part": self.schema(depth)}}

    def _tree(self, depth: int) -> dict[str, Any]:
        below = {"type": "array", "items": {"$ref": "#"}, "maxItems": 1}
        made = {"type": "object", "properties": {"value": self.schema(depth + 1), "below": below}}
        return {**made, "required": ["value"], "additionalProperties": False}
