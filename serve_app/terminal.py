"""Text that somebody else wrote, shown on a terminal as text, and never as an instruction to the terminal.

Names, descriptions, answers of models and lines of logs may hold anything: escape sequences that clear the
screen, marks that turn the direction of writing, ends of lines that forge a line, markup of Rich.
"""

import re

from rich.console import Console
from rich.table import Table

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def visible(text: object) -> str:
    """One line, in which what cannot be printed is written out: `\\x1b[2J`."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def visible_lines(text: object) -> str:
    """The same for a text of several lines with tabs in it. Colours, which logs are full of, are left out."""
    lines = COLOURS.sub("", str(text)).split("\n")
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in lines)


class Rows:
    """A table of plain text. `of_lines`: ends of lines in it are kept; they stay within their column."""

    def __init__(self, *headings: str, of_lines: bool = False) -> None:
        self._table = Table(*headings, box=None)
        self._shown = visible_lines if of_lines else visible

    def add(self, *cells: object) -> None:
        self._table.add_row(*map(self._shown, cells))

    def show(self, width: int | None = None) -> None:
        Console(width=width, markup=False, emoji=False, highlight=False).print(self._table)
