"""The `tiger` command, called in this process."""

from typer.testing import CliRunner, Result

from serve_app.cli import app

ODD = ["[/]", "[bold]x[/bold]", ":smile:", "\x1b[2Jgone", "two\nlines", "\u202eabc"]
"""Texts with control characters and markup that a terminal, or Rich, would obey."""


def tiger(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))
