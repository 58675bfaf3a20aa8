"""Imports go one way: serve_app -> training -> registry; heavy libraries stay where they are needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROUTES = sorted(
    f"serve_app.api.routes.{path.stem}" for path in (ROOT / "serve_app" / "api" / "routes").glob("[a-z]*.py")
)
MODELS = ("torch", "vllm", "transformers", "trl", "peft")


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after it imports `modules`."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def imported_by(package: str) -> set[str]:
    """The top-level packages that the sources of `package` import, at any place of a file."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                assert node.module is not None
                found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    "modules",
    [
        ("serve_app.api.ingress", "serve_app.catalog.catalog", "serve_app.application", *ROUTES),
        ("training.controller.controller", "training.worker.loop"),
    ],
    ids=["serving", "training"],
)
def test_front_of_the_service_loads_no_model_library(modules: tuple[str, ...]) -> None:
    assert loaded_by(*modules) & set(MODELS) == set()


def test_registry_loads_no_ray_and_no_web_framework() -> None:
    modules = [f"registry.{path.stem}" for path in (ROOT / "registry").glob("[a-z]*.py")]
    assert loaded_by(*modules) & {"ray", "fastapi", "starlette", *MODELS} == set()


def test_training_never_imports_the_serving_side() -> None:
    assert "serve_app" not in imported_by("training")


def test_registry_imports_neither_training_nor_serving() -> None:
    assert imported_by("registry") & {"serve_app", "training", "ray", "torch", "fastapi"} == set()


@pytest.mark.parametrize("package", ["vllm", "trl", "boto3"])
def test_heavy_library_is_imported_in_its_own_files_only(package: str) -> None:
    owners = {
        "vllm": {
            "serve_app/model_server/engine_requests.py",
            "serve_app/model_server/generations.py",
            "serve_app/model_server/openai_layer.py",
            "serve_app/model_server/server.py",
            "serve_app/model_server/vllm_openai_private.py",
            "serve_app/model_server/vllm_private.py",
            "serve_app/model_server/vllm_gpu_worker_private.py",
            "serve_app/model_server/vllm_worker_private.py",
        },
        "trl": {"training/worker/trl_private.py"},
        "boto3": {"registry/client.py", "registry/store_errors.py"},
    }
    users = {
        str(path.relative_to(ROOT))
        for room in ("registry", "training", "serve_app")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(a.name.partition(".")[0] == package for a in node.names))
        or (isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == package)
    }
    assert users == owners[package]
