"""The documents name every setting, route and error code, and no missing file, command or link."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from registry.errors import TigerError
from serve_app.api.ingress import ROUTERS
from serve_app.api.routes import operations
from serve_app.cli import app as cli
from serve_app.settings import Settings
from tests.support.documents import DOCUMENTS, FENCE, ROOT

MAX_README_WORDS = 1650
PACKAGES = ("registry", "training", "serve_app")
FOLDERS = (*PACKAGES, "configs", "cluster", "bench", "requirements", "docs", "tests")
APACHE_LICENSE_SHA256 = "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"

REPOSITORY_PATH = re.compile(rf"(?<![\w./:-])(?:{'|'.join(FOLDERS)})/[\w./-]*")
SOURCE_NAME = re.compile(r"`(\w+\.py)`")
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
MAKE = re.compile(r"^(?:\S+=\S+ )*make ([a-z][a-z-]*)", re.MULTILINE)
TIGER = re.compile(r"(?:^|[ /])tiger ([a-z]+)(?: ([a-z]+))?", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def code_of(document: Path) -> Iterator[str]:
    """The code that a document shows: its fenced blocks, and the texts between backticks."""
    text = document.read_text()
    yield from FENCE.findall(text)
    yield from INLINE_CODE.findall(FENCE.sub("", text))


def anchors_of(document: Path) -> set[str]:
    """The names by which links reach the headings, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """All settings by their paths; `[]` stands for one entry of a list."""
    for name, field in model.model_fields.items():
        item = next(iter(get_args(field.annotation)), None)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_of(field.annotation, f"{prefix}{name}.")
        elif isinstance(item, type) and issubclass(item, BaseModel):
            is_optional = NoneType in get_args(field.annotation)
            yield from settings_of(item, f"{prefix}{name}." if is_optional else f"{prefix}{name}[].")
        else:
            yield prefix + name, field


def shown(field: FieldInfo) -> str:
    """A default as the tables of the settings show it."""
    default: Any = field.default
    if field.is_required():
        return "required"
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if default in ("", {}, (), []):
        return "empty"
    if isinstance(default, float) and default.is_integer():
        return str(int(default))
    return ", ".join(map(str, default)) if isinstance(default, tuple | list) else str(default)


def test_every_setting_is_explained_with_its_default() -> None:
    lines = (ROOT / "docs" / "operations.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in lines if line.startswith("| `")]
    explained = {name.strip("`"): default for name, default, meaning in rows if meaning}
    expected = {name: shown(field) for name, field in settings_of(Settings)}
    assert {name: explained.get(name) for name in expected} == expected
    ours = {*Settings.model_fields, "models[]"}
    assert {name for name in explained if name.partition(".")[0] in ours} <= expected.keys()


@each_document
def test_paths_exist(document: Path) -> None:
    names = {path.name for package in FOLDERS for path in (ROOT / package).rglob("*.py")}
    text = document.read_text()
    paths = {path.rstrip(".-") for path in REPOSITORY_PATH.findall(text)}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    assert [name for name in SOURCE_NAME.findall(text) if name not in names] == []


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    named = {target for code in code_of(document) for target in MAKE.findall(code)}
    assert named <= targets


@each_document
def test_commands_exist(document: Path) -> None:
    commands = {info.name or info.callback.__name__ for info in cli.registered_commands if info.callback}
    groups = {
        group.name: {info.name for info in group.typer_instance.registered_commands}
        for group in cli.registered_groups
        if group.typer_instance
    }
    for code in code_of(document):
        for command, subcommand in TIGER.findall(code):
            assert command in commands | groups.keys(), code
            assert command not in groups or not subcommand or subcommand in groups[command], code


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(FENCE.sub("", document.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= MAX_README_WORDS


def test_every_route_is_described() -> None:
    described = (ROOT / "docs" / "api.md").read_text()
    routes = {
        f"{method} {route.path}"
        for router in (*ROUTERS, operations.router)
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert len(routes) > 20
    assert [route for route in sorted(routes) if f"`{route}`" not in described] == []


def test_every_error_code_is_described() -> None:
    described = (ROOT / "docs" / "api.md").read_text()
    kinds = [TigerError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert [kind.code for kind in kinds if f"`{kind.code}`" not in described] == []


def test_files_with_private_names_of_libraries_are_listed() -> None:
    listed = (ROOT / "CONTRIBUTING.md").read_text()
    seams = [path for package in PACKAGES for path in (ROOT / package).rglob("*_private.py")]
    assert len(seams) > 5
    assert [path.name for path in sorted(seams) if f"`{path.relative_to(ROOT)}`" not in listed] == []


def test_decisions_are_listed_and_have_a_status() -> None:
    directory = ROOT / "docs" / "decisions"
    index = (directory / "README.md").read_text()
    decisions = sorted(directory.glob("[0-9]*.md"))
    assert [path.name[:4] for path in decisions] == [f"{n:04}" for n in range(1, len(decisions) + 1)]
    for path in decisions:
        assert f"]({path.name})" in index, path.name
        assert "\n**Status:** " in path.read_text(), path.name


def test_licence_is_the_unmodified_apache_licence() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_LICENSE_SHA256


def test_contents_of_the_operations_lead_to_every_section() -> None:
    document = ROOT / "docs" / "operations.md"
    contents, *sections = FENCE.sub("", document.read_text()).split("\n## ")
    named = {link.removeprefix("#") for link in LINK.findall(contents)}
    headings = {section.partition("\n")[0] for section in sections}
    assert headings
    assert {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} <= named
