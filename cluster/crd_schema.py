"""The schema of a CustomResourceDefinition, as strict as a manifest needs it.

Kubernetes drops a field that a definition does not have, and the resource then lacks it silently. Here such a
field is an error. Two keywords of Kubernetes are put into JSON Schema's words: `nullable` and
`x-kubernetes-preserve-unknown-fields`. The rules of `x-kubernetes-validations` are not checked.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]


class DefinitionError(Exception):
    """The definition has no schema for the manifest."""


def schema_of(definition: Mapping[str, Any], manifest: Mapping[str, Any]) -> Schema:
    """Returns the strict schema of the kind and version that the manifest names.

    Raises:
        DefinitionError: the definition is of another kind, or does not serve this version.
    """
    try:
        spec = definition["spec"]
        group, kind, versions = spec["group"], spec["names"]["kind"], spec["versions"]
    except (KeyError, TypeError) as error:
        raise DefinitionError(f"it is not a CustomResourceDefinition: {error} is missing") from error
    for version in versions:
        if (manifest.get("apiVersion"), manifest.get("kind")) == (f"{group}/{version['name']}", kind):
            if not version["served"] or version.get("deprecated"):
                raise DefinitionError(f"version {version['name']} of {kind} is deprecated")
            return strict(version["schema"]["openAPIV3Schema"])
    names = ", ".join(version["name"] for version in versions)
    raise DefinitionError(f"it defines {kind} of {group} ({names}), and the manifest is something else")


def strict(schema: Mapping[str, Any]) -> Schema:
    """Returns the schema with unknown fields refused, wherever it lists the fields of an object."""
    tightened = {keyword: _strict_value(keyword, value) for keyword, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in schema and not is_open:
        tightened.setdefault("additionalProperties", False)
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        tightened["type"] = [schema["type"], "null"]
    return tightened


def _strict_value(keyword: str, value: Any) -> Any:
    if keyword == "properties":
        return {name: strict(field) for name, field in value.items()}
    if keyword in ("items", "additionalProperties") and isinstance(value, Mapping):
        return strict(value)
    return value


def problems(manifest: Mapping[str, Any], schema: Schema) -> Iterator[str]:
    """Yields a line for each difference, with the path of the field."""
    errors = Draft202012Validator(schema).iter_errors(manifest)
    for error in sorted(errors, key=lambda error: error.json_path):
        yield f"{error.json_path}: {error.message}"
