"""The files of the sources and the tests keep the rules of CONTRIBUTING that a program can check."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("registry", "training", "serve_app", "bench", "cluster", "requirements")
MAX_LINES = 299
FRAGMENT = re.compile(r"\s*(What|Of|Whether)\b")
"""The beginning of a docstring that has no subject."""


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert found
    return found


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Yields the docstrings of modules, classes, functions and constants: texts that are statements."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text


def fragments(text: str) -> list[str]:
    return [docstring for docstring in docstrings(ast.parse(text)) if FRAGMENT.match(docstring)]


def test_files_have_fewer_than_300_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files(*SOURCES, "tests")
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_docstrings_begin_with_their_subject() -> None:
    found = {str(path.relative_to(ROOT)): fragments(path.read_text()) for path in files(*SOURCES, "tests")}
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_every_source_file_begins_with_a_docstring() -> None:
    trees = {path: ast.parse(path.read_text()) for path in files(*SOURCES)}
    assert [path for path, tree in trees.items() if tree.body and ast.get_docstring(tree) is None] == []


@pytest.mark.parametrize(
    "text",
    [
        '"""What a file has."""',
        'def f():\n    """Whether it is so."""',
        'class A:\n    """\n    Of a user, the keys."""',
        'SIZE = 1\n"""Of a page."""',
    ],
)
def test_fragment_is_found(text: str) -> None:
    assert len(fragments(text)) == 1


@pytest.mark.parametrize("text", ['"""The size of a page."""', '"""Often called."""', 'TEXT = "What is it?"'])
def test_sentence_is_no_fragment(text: str) -> None:
    assert fragments(text) == []
