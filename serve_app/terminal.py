"""Shows text of others on a terminal only as text, so that it cannot control the terminal.

Names, descriptions, answers of models and lines of logs can have any content: escape sequences that clear the
screen, marks that change the direction of writing, line ends that fake another line, and markup of Rich.
"""

import re

from rich.console import Console
from rich.table import Table

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def visible(text: object) -> str:
    """Returns the text as one line, with escapes for unprintable characters, such as `\\x1b[2J`."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(text)
    )


def visible_lines(text: object) -> str:
    """Does the same for text with several lines and tabs, and removes the colours that logs often have."""
    lines = COLOURS.sub("", str(text)).split("\n")
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in lines)


class Rows:
    """A table of plain text. `of_lines` keeps line ends, which stay within their column."""

    def __init__(self, *headings: str, of_lines: bool = False) -> None:
        self._table = Table(*headings, box=None)
        self._shown = visible_lines if of_lines else visible

    def add(self, *cells: object) -> None:
        self._table.add_row(*map(self._shown, cells))

    def show(self, width: int | None = None) -> None:
        Console(width=width, markup=False, emoji=False, highlight=False).print(self._table)
