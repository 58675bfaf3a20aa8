"""The command `tiger audit`: shows who did what, from the audit log in the bucket."""

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated

import typer

from registry.audit import AuditLog, Entry
from registry.records import utc_now
from serve_app.chosen_instance import DEFAULT_HOME, FAULTS, Config, Home, failed, open_store
from serve_app.terminal import Rows

# Each entry is one line, also in a pipe, so that other programs can read it.
LINE_CHARACTERS = 320
AGE_PATTERN = re.compile(r"(\d{1,4})([dh])")


def show_audit(
    since: Annotated[
        str, typer.Option(help="Age of the oldest entry: days or hours, such as 7d or 12h.")
    ] = "7d",
    user: Annotated[
        str | None,
        typer.Option(help="Show only what concerns this user. [default: all users]", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    home: Home = DEFAULT_HOME,
    config: Config = None,
) -> None:
    """Show who did what, oldest first, in UTC: keys, models, revisions, trainings and deployments."""
    begin = utc_now() - _age(since)
    try:
        found = AuditLog(open_store(home, config)).entries(begin)
        entries = (entry for entry in found if user is None or entry.user == user)
        if as_json:
            for entry in entries:
                typer.echo(entry.model_dump_json())
        else:
            _show(entries)
    except FAULTS as error:
        raise failed(error) from error


def _show(entries: Iterable[Entry]) -> None:
    rows = Rows("time", "by", "user", "action", "on", "outcome", "request")
    for entry in entries:
        outcome = entry.outcome if entry.status is None else f"{entry.outcome} ({entry.status})"
        targets = " ".join(f"{name}={value}" for name, value in entry.targets.items())
        rows.add(
            f"{entry.time:%Y-%m-%d %H:%M:%S}",
            entry.key or entry.actor,
            entry.user or "-",
            entry.action,
            targets or "-",
            outcome,
            entry.request_id or "-",
        )
    rows.show(LINE_CHARACTERS)


def _age(text: str) -> timedelta:
    """Returns an age. Exits with a message if the text is none."""
    found = AGE_PATTERN.fullmatch(text)
    if found is None:
        raise failed(f"--since {text}: give days or hours, for example 7d or 12h")
    return timedelta(**{{"d": "days", "h": "hours"}[found[2]]: int(found[1])})
