"""Compares the names that we take from a library with the installed library.

A seam (a file `*_private.py`) imports such names. It lists in OBJECTS those that we read, replace or override
on the library's objects. The test of a seam has a shape for each name: the parameters of a function, or
ATTRIBUTE. A message begins with the library and its version, so that it tells what a new version has changed.
"""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ATTRIBUTE = "an attribute"
"""The shape of a class, a module, or another attribute. Only its name is compared."""
MARKS: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
MISSING = object()

Shapes = Mapping[str, Mapping[str, str]]
"""The shapes of the names of each module or class."""


def cases_of(shapes: Shapes) -> list[pytest.ParameterSet]:
    """Returns the owners and names as the cases of a test. The id of a case is the whole name."""
    return [pytest.param(owner, name, id=f"{owner}.{name}") for owner, name in names_of(shapes)]


def names_of(shapes: Shapes) -> list[tuple[str, str]]:
    return [(owner, name) for owner, names in shapes.items() for name in names]


def check_shape(owner: str, name: str, shape: str) -> None:
    """Raises AssertionError unless the module or class `owner` has the name in this shape."""
    library = owner.partition(".")[0]
    version = f"{library} {importlib.import_module(library).__version__}"
    try:
        holder = pkgutil.resolve_name(owner)
    except (ImportError, AttributeError):
        raise AssertionError(f"{version}: there is no {owner}") from None
    found = getattr(holder, name, MISSING)
    if found is MISSING and isinstance(holder, ModuleType):
        found = _submodule(f"{owner}.{name}")
    if shape == ATTRIBUTE:
        assert found is not MISSING or _is_set_on(holder, name), f"{version}: there is no {owner}.{name}"
        return
    assert found is not MISSING, f"{version}: there is no {owner}.{name}"
    now = parameters_of(found)
    assert now == shape, f"{version}: {owner}.{name} takes ({now}), and not ({shape})"


def parameters_of(function: Any) -> str:
    """Returns the parameters in order, such as `self, text, limit=, *, strict=, **more`."""
    shown = []
    is_keyword_only = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind == inspect.Parameter.KEYWORD_ONLY and not is_keyword_only:
            shown.append("*")
        is_keyword_only |= parameter.kind in (
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.VAR_POSITIONAL,
        )
        default = "" if parameter.default is inspect.Parameter.empty else "="
        shown.append(f"{MARKS.get(parameter.kind, '')}{parameter.name}{default}")
    return ", ".join(shown)


def check_names(seam: str, shapes: Shapes) -> None:
    """Raises AssertionError unless `shapes` has exactly the names that the seam takes from libraries.

    An imported class or module needs no shape of its own if OBJECTS has names of it.
    """
    tree = ast.parse((ROOT / seam).read_text())
    objects = objects_of(seam)
    imported = {(owner, name) for owner, name in _imported(tree) if f"{owner}.{name}" not in objects}
    taken = imported | set(names_of({owner: dict.fromkeys(names, "") for owner, names in objects.items()}))
    known = set(names_of(shapes))
    assert sorted(taken - known) == [], f"{seam} takes names that have no shape"
    assert sorted(known - taken) == [], f"{seam} does not take these names"


def check_overrides(seam: str, ours: type, theirs: type) -> None:
    """Raises AssertionError unless OBJECTS of the seam has all names of `theirs` that `ours` overrides."""
    declared = {name for names in objects_of(seam).values() for name in names}
    (body,) = ast.parse(dedent(inspect.getsource(ours))).body
    overridden = {name for name in _defined_in(body) if hasattr(theirs, name) or _is_set_on(theirs, name)}
    assert overridden, f"{ours.__name__} overrides nothing of {theirs.__name__}"
    assert sorted(overridden - declared) == [], f"{seam} does not list what {ours.__name__} overrides"


def objects_of(seam: str) -> dict[str, tuple[str, ...]]:
    """Returns OBJECTS of a seam without importing it."""
    for node in ast.parse((ROOT / seam).read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OBJECTS":
            found: dict[str, tuple[str, ...]] = ast.literal_eval(node.value)
            return found
    raise AssertionError(f"{seam} has no OBJECTS")


def _defined_in(body: ast.stmt) -> Iterator[str]:
    """Yields the names that the body of a class defines or declares."""
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (ast.unparse(target) for target in node.targets)
        elif isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target)


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith(("ray.", "vllm.", "trl", "transformers"))
        ):
            yield from ((node.module, alias.name) for alias in node.names)


def _submodule(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return MISSING


def _is_set_on(holder: Any, name: str) -> bool:
    """Returns True if objects of the class `holder` get an attribute of this name."""
    classes = holder.__mro__ if isinstance(holder, type) else ()
    return any(
        name in vars(each).get("__annotations__", {}) or name in _set_in(each)
        for each in classes
        if each.__module__ != "builtins"
    )


def _set_in(owner: type) -> set[str]:
    """Returns the names of the attributes that the methods of a class set on `self`."""
    try:
        source = inspect.getsource(owner)
    except (OSError, TypeError):  # a class that is not written in Python
        return set()
    return {
        node.attr
        for node in ast.walk(ast.parse(dedent(source)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }
