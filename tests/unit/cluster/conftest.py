"""The files of cluster/, read as data."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.check_manifest import DIRECTORY, MANIFEST

PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^\s\\;]+)", re.MULTILINE)


@pytest.fixture(scope="session")
def root() -> Path:
    return DIRECTORY.parent


@pytest.fixture(scope="session")
def gpu_lock(root: Path) -> dict[str, str]:
    """The locked packages of the image, with their versions."""
    return dict(PINNED.findall((root / "requirements" / "gpu.txt").read_text()))


@pytest.fixture(scope="session")
def operations(root: Path) -> str:
    """The operator's document."""
    return (root / "docs" / "operations.md").read_text()


@pytest.fixture(scope="session")
def service() -> Any:
    """The `spec` of the RayService."""
    return yaml.safe_load(MANIFEST.read_text())["spec"]


@pytest.fixture(scope="session")
def head(service: Any) -> Any:
    return service["rayClusterConfig"]["headGroupSpec"]


@pytest.fixture(scope="session")
def workers(service: Any) -> Any:
    """The only group of workers."""
    (group,) = service["rayClusterConfig"]["workerGroupSpecs"]
    return group


@pytest.fixture(scope="session")
def pods(head: Any, workers: Any) -> list[Any]:
    """The pod templates of the head and of a worker."""
    return [head["template"], workers["template"]]


@pytest.fixture(scope="session")
def containers(pods: list[Any]) -> list[Any]:
    """The only containers of the head and of a worker."""
    return [container for pod in pods for container in pod["spec"]["containers"]]
