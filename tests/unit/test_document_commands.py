"""Every block of commands in the documents is run by a test, or the reason why none runs it is stated."""

import re
import shlex

import pytest
from typer.testing import CliRunner

from serve_app.cli import app as cli
from tests.support.documents import NOT_RUN, RUN, Block, blocks

LISTED = [*sorted(RUN), *NOT_RUN]
WITH_LANGUAGE = [block for block in blocks() if block.language]
COMMAND = re.compile(
    r"\s*(?:\$ |(?:\w+=\S+ )*(?:\.venv/bin/|(?:curl|export|kubectl|make|pip|python|serve|tiger)\s))"
)
TIGER = re.compile(r"^(?:\w+=\S+ )*(?:\.venv/bin/)?tiger (.*)$", re.MULTILINE)


@pytest.mark.parametrize(
    "block", WITH_LANGUAGE, ids=lambda block: f"{block.document}: {block.code.partition(chr(10))[0]}"
)
def test_block_is_run_or_the_reason_is_stated(block: Block) -> None:
    assert block.language in ("sh", "python", "json", "yaml")
    assert sum(map(block.begins, LISTED)) == 1, block.code


@pytest.mark.parametrize("name", LISTED, ids=": ".join)
def test_listed_name_belongs_to_one_block(name: tuple[str, str]) -> None:
    assert sum(block.begins(name) for block in WITH_LANGUAGE) == 1


def test_blocks_without_a_language_hold_no_commands() -> None:
    lines = [line for block in blocks() if not block.language for line in block.code.splitlines()]
    assert len(lines) > 20
    assert [line for line in lines if COMMAND.match(line)] == []


def test_commands_are_told_from_other_text() -> None:
    for line in ("$ ls", "curl http://localhost", ".venv/bin/tiger up", "A=b make up", "  pip install x"):
        assert COMMAND.match(line), line
    for line in ("created the model 'demo-1'", "serve_app/      answers HTTP"):
        assert not COMMAND.match(line), line


def test_tiger_takes_the_options_that_are_shown() -> None:
    commands = [command for block in WITH_LANGUAGE for command in TIGER.findall(block.code)]
    assert len(commands) > 3
    for command in commands:
        result = CliRunner().invoke(cli, [*shlex.split(command, comments=True), "--help"])
        assert result.exit_code == 0, result.output
