import pytest

from serve_app.terminal import Rows, visible, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Name \u00e9\u4e16\U0001f405", "Name \u00e9\u4e16\U0001f405"),
        ("[/] [bold]x[/bold] :smile:", "[/] [bold]x[/bold] :smile:"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\x9b2J\u200b\ud800", r"\x9b2J\u200b\ud800"),
        (7, "7"),
    ],
)
def test_what_cannot_be_printed_is_written_out(text: object, shown: str) -> None:
    assert visible(text) == shown


def test_lines_keep_their_ends_and_tabs_and_lose_their_colours() -> None:
    assert visible_lines("\x1b[36m(pid=1)\x1b[0;0m a\tb\n\x1b[2Jc\r") == "(pid=1) a\tb\n\\x1b[2Jc\\r"


def test_table_shows_what_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    rows = Rows("[b]id[/b]", "name")
    for number, name in enumerate(["[/]", "[bold]x[/bold]", ":smile:", "\x1b[2J", "a\nb"]):
        rows.add(number, name)
    rows.show(80)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["0", "[/]"], ["1", "[bold]x[/bold]"], ["2", ":smile:"], ["3", r"\x1b[2J"], ["4", r"a\nb"],
    ]  # fmt: skip
