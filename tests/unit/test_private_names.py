"""Private names of libraries are taken from the seams (`*_private.py`), and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("registry", "training", "serve_app", "bench")
LIBRARIES = ("ray", "vllm", "trl", "transformers", "peft", "torch", "accelerate", "datasets")
PUBLIC_OF_VLLM = {"vllm", "vllm.exceptions", "vllm.inputs", "vllm.lora.request", "vllm.sampling_params"}
"""The modules of vLLM that its documentation describes. All others are the engine's own."""
STANDARD = {"logging._handlerList", "os._exit"}
"""Private names of Python's own libraries that are in use."""
METHODS_OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def is_seam(path: Path) -> bool:
    return path.name.endswith("_private.py")


def sources(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if not is_seam(path)]
    assert files
    return files


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def is_of_a_library(name: str) -> bool:
    return name.partition(".")[0] in LIBRARIES


def private_names(tree: ast.AST) -> Iterator[str]:
    """Yields the private names of libraries that a file imports or spells."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)):
                found = [f"{module}.{alias.name}" for alias in node.names]
            case ast.Import():
                found = [alias.name for alias in node.names]
            case ast.Attribute():
                found = [ast.unparse(node)]
            case ast.Constant(value=str(text)) if text.replace(".", "").isidentifier():
                found = [text]
            case _:
                continue
        yield from (name for name in found if is_of_a_library(name) and is_private(name))


def modules_of_vllm(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        found = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        yield from (name for name in found if name.partition(".")[0] == "vllm")


def own_names(tree: ast.AST) -> Iterator[str]:
    """Yields the names that a file defines, and the attributes that it sets on its own objects."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self" | "cls")):
                yield name


def foreign_attributes(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Yields the private attributes that a file reads or sets and that none of our files defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            yield ast.unparse(node)


@pytest.mark.parametrize("folder", [*SOURCES, "tests"])
def test_no_other_file_names_private_names_of_libraries(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in sources(folder)
        if (names := sorted(set(private_names(ast.parse(path.read_text())))))
    }
    assert found == {}


def test_no_other_file_imports_modules_of_vllm_that_are_not_public() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in sources("registry", "training", "serve_app")
        if (names := sorted(set(modules_of_vllm(ast.parse(path.read_text()))) - PUBLIC_OF_VLLM))
    }
    assert found == {}


def test_no_other_file_uses_private_attributes_of_foreign_objects() -> None:
    trees = {path: ast.parse(path.read_text()) for path in sources(*SOURCES)}
    own = {name for tree in trees.values() for name in own_names(tree)} | METHODS_OF_NAMED_TUPLES
    found = {
        str(path.relative_to(ROOT)): names
        for path, tree in trees.items()
        if (names := sorted(set(foreign_attributes(tree, own)) - STANDARD))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "from ray.serve._private import replica",
        "from ray._common.network_utils import build_address",
        "from ray.llm._internal.common import callbacks",
        "from transformers import _private",
        "import torch._C",
        "import ray\nray._private.worker",
        "importlib.import_module('vllm._custom_ops')",
    ],
)
def test_private_name_is_found(text: str) -> None:
    assert list(private_names(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    ["from ray import serve", "import torch\ntorch.__version__", "self._ray", "'rays of _light'", "'torch'"],
)
def test_other_name_is_not_found(text: str) -> None:
    assert not list(private_names(ast.parse(text)))


def test_foreign_attribute_is_found() -> None:
    tree = ast.parse("class A:\n    def f(self, engine):\n        self._x = engine._client + self._x")
    assert list(foreign_attributes(tree, set(own_names(tree)))) == ["engine._client"]
