"""The command that checks the manifest says what is wrong, and its exit status tells scripts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.check_manifest import MANIFEST, main, merged


def definition_of(tmp_path: Path, **spec: Any) -> Path:
    """A definition of a RayService whose `spec` has these fields alone."""
    fields = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": spec},
    }
    version = {"name": "v1", "served": True, "schema": {"openAPIV3Schema": {"properties": fields}}}
    path = tmp_path / "crd.yaml"
    content = {"spec": {"group": "ray.io", "names": {"kind": "RayService"}, "versions": [version]}}
    path.write_text(yaml.safe_dump(content))
    return path


def all_fields() -> dict[str, Any]:
    return {name: {} for name in yaml.safe_load(MANIFEST.read_text())["spec"]}


def test_manifest_that_fits_ends_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--crd", str(definition_of(tmp_path, **all_fields()))]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rayservice.yaml: 0 problems",
        "rayservice.yaml with gcs-fault-tolerance.yaml: 0 problems",
    ]


def test_unknown_field_ends_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fields = all_fields()
    del fields["upgradeStrategy"]
    assert main(["--crd", str(definition_of(tmp_path, **fields))]) == 1
    assert "'upgradeStrategy' was unexpected" in capsys.readouterr().out


def test_patch_is_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = yaml.safe_load(MANIFEST.read_text())["spec"]["rayClusterConfig"]
    known: dict[str, Any] = {"properties": {name: {} for name in cluster}}
    assert main(["--crd", str(definition_of(tmp_path, **all_fields() | {"rayClusterConfig": known}))]) == 1
    plain, _, patched = capsys.readouterr().out.partition("with gcs-fault-tolerance.yaml")
    assert "0 problems" in plain and "'gcsFaultToleranceOptions' was unexpected" in patched


@pytest.mark.parametrize("content", ["", "- a list", "spec: {", "kind: Deployment"])
def test_file_that_is_no_definition_ends_with_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / "crd.yaml"
    path.write_text(content)
    assert main(["--crd", str(path)]) == 2
    assert "the definition cannot be used" in capsys.readouterr().err


def test_missing_file_ends_with_two(tmp_path: Path) -> None:
    assert main(["--crd", str(tmp_path / "absent.yaml")]) == 2


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
    ],
)
def test_merge_patch_is_the_one_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result
