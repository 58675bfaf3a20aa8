"""Checks cluster/rayservice.yaml against KubeRay's own definition of a RayService. It needs no cluster.

    python -m cluster.check_manifest --crd ray.io_rayservices.yaml

The definition belongs to KubeRay and is in its Helm chart; docs/operations.md has the command that gets it.
The manifest is checked twice: as it is, and with cluster/gcs-fault-tolerance.yaml over it.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster.crd_schema import DefinitionError, problems, schema_of

DIRECTORY = Path(__file__).resolve().parent
MANIFEST = DIRECTORY / "rayservice.yaml"
PATCH = DIRECTORY / "gcs-fault-tolerance.yaml"


def merged(target: Any, patch: Any) -> Any:
    """Returns the target with a JSON merge patch (RFC 7386) over it, as `kubectl patch --type merge` does."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def variants(manifest: Path, patch: Path) -> Iterator[tuple[str, Any]]:
    """Yields the manifests that an operator can apply, with their names."""
    plain = yaml.safe_load(manifest.read_text())
    yield manifest.name, plain
    yield f"{manifest.name} with {patch.name}", merged(plain, yaml.safe_load(patch.read_text()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what is wrong, and returns the exit status.

    It is 0 without a problem, 1 with one, and 2 if the definition cannot be used.
    """
    parser = ArgumentParser(prog="python -m cluster.check_manifest", description=__doc__)
    parser.add_argument("--crd", type=Path, required=True, help="KubeRay's ray.io_rayservices.yaml")
    parser.add_argument("--manifest", type=Path, default=MANIFEST)
    parser.add_argument("--patch", type=Path, default=PATCH)
    options = parser.parse_args(arguments)
    found = 0
    try:
        definition = yaml.safe_load(options.crd.read_text())
        for name, manifest in variants(options.manifest, options.patch):
            lines = list(problems(manifest, schema_of(definition, manifest)))
            found += len(lines)
            print("\n".join([f"{name}: {len(lines)} problems", *(f"  {line}" for line in lines)]))
    except (OSError, yaml.YAMLError, DefinitionError) as error:
        print(f"the definition cannot be used: {error}", file=sys.stderr)
        return 2
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
