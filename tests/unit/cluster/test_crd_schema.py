"""A manifest is checked against a definition, here one of a few lines, as strictly as it needs."""

from copy import deepcopy
from typing import Any

import pytest

from cluster.crd_schema import DefinitionError, problems, schema_of, strict

DEFINITION: dict[str, Any] = {
    "spec": {
        "group": "ray.io",
        "names": {"kind": "Kettle"},
        "versions": [
            {"name": "v1alpha1", "served": True, "deprecated": True, "schema": {"openAPIV3Schema": {}}},
            {
                "name": "v1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "apiVersion": {"type": "string"},
                            "kind": {"type": "string"},
                            "metadata": {"type": "object"},
                            "spec": {
                                "type": "object",
                                "required": ["litres"],
                                "properties": {
                                    "litres": {"type": "integer"},
                                    "mode": {"type": "string", "enum": ["boil", "keep"]},
                                    "lid": {"type": "string", "nullable": True},
                                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                                    "parts": {
                                        "type": "array",
                                        "items": {
                                            "type": "object",
                                            "properties": {"name": {"type": "string"}},
                                        },
                                    },
                                    "anything": {
                                        "type": "object",
                                        "properties": {"name": {"type": "string"}},
                                        "x-kubernetes-preserve-unknown-fields": True,
                                    },
                                },
                            },
                        },
                    }
                },
            },
        ],
    }
}
MANIFEST: dict[str, Any] = {"apiVersion": "ray.io/v1", "kind": "Kettle", "metadata": {"name": "tea"}}


def found(**spec: Any) -> list[str]:
    manifest = MANIFEST | {"spec": {"litres": 1} | spec}
    return list(problems(manifest, schema_of(DEFINITION, manifest)))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"mode": "boil", "labels": {"any": "name"}},
        {"parts": [{"name": "whistle"}]},
        {"lid": None},
        {"anything": {"name": "x", "more": 1}},
    ],
)
def test_manifest_that_fits_has_no_problem(spec: dict[str, Any]) -> None:
    assert found(**spec) == []


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"litre": 2}, "$.spec: Additional properties are not allowed ('litre' was unexpected)"),
        ({"litres": "1"}, "$.spec.litres: '1' is not of type 'integer'"),
        ({"mode": "cook"}, "$.spec.mode: 'cook' is not one of ['boil', 'keep']"),
        ({"mode": None}, "$.spec.mode: None is not of type 'string'"),
        ({"labels": {"any": 1}}, "$.spec.labels.any: 1 is not of type 'string'"),
        ({"parts": [{}, {"nam": "x"}]}, "$.spec.parts[1]: Additional properties are not allowed"),
    ],
)
def test_field_that_kubernetes_would_refuse_or_drop_is_named(spec: dict[str, Any], problem: str) -> None:
    assert any(line.startswith(problem) for line in found(**spec))


def test_missing_field_is_named() -> None:
    manifest = MANIFEST | {"spec": {}}
    (line,) = problems(manifest, schema_of(DEFINITION, manifest))
    assert line == "$.spec: 'litres' is a required property"


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (MANIFEST | {"apiVersion": "ray.io/v1alpha1"}, "deprecated"),
        (MANIFEST | {"apiVersion": "ray.io/v2"}, "v1alpha1, v1"),
        (MANIFEST | {"kind": "Pot"}, "something else"),
    ],
)
def test_definition_of_something_else_is_refused(manifest: dict[str, Any], reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        schema_of(DEFINITION, manifest)


@pytest.mark.parametrize("definition", [None, {}, {"spec": {"group": "ray.io"}}])
def test_file_that_is_no_definition_is_refused(definition: Any) -> None:
    with pytest.raises(DefinitionError, match="not a CustomResourceDefinition"):
        schema_of(definition, MANIFEST)


def test_definition_itself_stays_as_it_was() -> None:
    before = deepcopy(DEFINITION)
    strict(DEFINITION["spec"]["versions"][1]["schema"]["openAPIV3Schema"])
    assert before == DEFINITION
