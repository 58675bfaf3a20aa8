"""The commands `tiger keys ...`: create, list and revoke API keys."""

import re
from datetime import datetime, timedelta
from typing import Annotated

import typer
from pydantic import ValidationError

from registry.keys import ApiKeys, KeyNotIdentified, parse_expiry
from registry.operator_actions import OperatorKeys
from registry.records import USER_PATTERN, utc_now
from serve_app.chosen_instance import DEFAULT_HOME, FAULTS, Config, Home, failed, open_store
from serve_app.terminal import Rows

keys_app = typer.Typer(
    help="Create, list and revoke API keys. Storage has only a hash of each key.", no_args_is_help=True
)
# Each key is one line, also in a pipe, so that other programs can read its id.
LINE_CHARACTERS = 220
DAYS_PATTERN = re.compile(r"(\d{1,4})d")


@keys_app.command("create")
def create_key(
    user: Annotated[str, typer.Argument(help="User of the key. A new name makes a new user.")],
    name: Annotated[str, typer.Option(help="Purpose of the key, which `tiger keys list` shows.")] = "default",
    expires: Annotated[
        str | None,
        typer.Option(
            help="Expiry: days from now, such as 90d, or a time in UTC, such as 2030-01-31T12:00:00Z. "
            "[default: never]",
            show_default=False,
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    config: Config = None,
) -> None:
    """Make an API key and print only the key on standard output. It cannot be shown again."""
    ends = None if expires is None else _expiry(expires)
    try:
        typer.echo(OperatorKeys(open_store(home, config)).create(user, name, ends))
    except ValidationError:
        raise failed(f"{user!r} is not a user name: it must match {USER_PATTERN}") from None
    except FAULTS as error:
        raise failed(error) from error


@keys_app.command("list")
def list_keys(home: Home = DEFAULT_HOME, config: Config = None) -> None:
    """List the keys: id, user, name, times of creation and expiry, and hour of the last use, in UTC."""
    try:
        found = ApiKeys(open_store(home, config)).list()
    except FAULTS as error:
        raise failed(error) from error
    rows = Rows("id", "user", "name", "created", "expires", "last used")
    for key in found:
        record = key.record
        shown = (_shown(time) for time in (record.created, record.expires, key.last_used))
        rows.add(record.id, record.user, record.name, *shown)
    rows.show(LINE_CHARACTERS)


@keys_app.command("revoke")
def revoke_key(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Id that `tiger keys list` shows, or at least the first 8 characters of the key's SHA-256.",
        ),
    ],
    home: Home = DEFAULT_HOME,
    config: Config = None,
) -> None:
    """Revoke a key. Within seconds it is refused everywhere. The data of its user stays."""
    try:
        revoked = OperatorKeys(open_store(home, config)).revoke(name)
    except (KeyNotIdentified, *FAULTS) as error:
        raise failed(error) from error
    typer.echo(f"revoked {revoked.id}, {revoked.name!r} of {revoked.user}")


def _expiry(text: str) -> datetime:
    """Returns the time of expiry. Exits with a message if the text is neither days nor a future time."""
    days = DAYS_PATTERN.fullmatch(text)
    if days is not None and int(days[1]):
        return utc_now() + timedelta(days=int(days[1]))
    try:
        return parse_expiry(text)
    except ValueError as error:
        raise failed(f"--expires {text}: {error}, or days, for example 90d") from None


def _shown(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M}"
