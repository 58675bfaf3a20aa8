"""The `tiger` command: starts and stops an instance, shows its state, and manages API keys."""

import os
import re
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError

from registry.errors import TigerError
from registry.keys import ApiKeys, KeyNotIdentified, hash_key, parse_expiry
from registry.records import USER_PATTERN, utc_now
from registry.store import StorageUnfit
from serve_app.demo import Demo
from serve_app.instance import log_files
from serve_app.instance.configuration_choice import ConfigurationChoice
from serve_app.instance.environment import loopback_without_proxy
from serve_app.instance.instance import FIRST_USER, Instance
from serve_app.instance.processes import InstanceError
from serve_app.instance.state import STATE_FILE, StateFile
from serve_app.terminal import Rows, visible, visible_lines
from serve_app.version import VERSION

app = typer.Typer(
    help="A self-hosted service for private language models: start it, see its state, manage API keys.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(
    help="Create, list and revoke API keys. Storage has only a hash of each key.", no_args_is_help=True
)
app.add_typer(keys_app, name="keys")

Home = Annotated[
    Path, typer.Option(envvar="TIGER_HOME", help="Directory of the instance: its data, keys, state and logs.")
]
Config = Annotated[
    str | None,
    typer.Option(
        envvar="TIGER_CONFIG",
        help="Name of a file in configs/, or a path. [default: that of the last time, or what this machine "
        "has hardware for]",
        show_default=False,
    ),
]
DEFAULT_HOME = Path("~/.tiger")
# Each key is one line, also in a pipe, so that other programs can read its id.
LINE_CHARACTERS = 220
DAYS_PATTERN = re.compile(r"(\d{1,4})d")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"tiger {VERSION}")
        raise typer.Exit


@app.callback()
def prepare(
    is_asked: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    # boto3 must reach loopback directly, even if there is a proxy.
    os.environ.update(loopback_without_proxy())


@app.command()
def up(
    home: Home = DEFAULT_HOME,
    config: Config = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="HTTP port, also TIGER_HTTP__PORT. [default: that of the last time, or 45678]",
            show_default=False,
        ),
    ] = None,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            help="Port of the Ray dashboard. [default: that of the last time, or 8265]", show_default=False
        ),
    ] = None,
) -> None:
    """Start everything that is not running, and wait until it is ready.

    It is safe to repeat this command: running processes are not touched, crashed ones are started again, and
    no stored data is lost. The command prints a first API key if there is none yet.
    """
    instance = open_instance(home, config or _configuration(home), port, dashboard_port)
    start = time.monotonic()
    try:
        key = instance.up(lambda line: typer.echo(f"[{time.monotonic() - start:6.1f} s] {line}"))
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: what this command started was stopped", err=True)
        raise typer.Exit(130) from None
    except (InstanceError, TigerError) as error:
        raise _failed(error) from error
    _show_urls(instance)
    if key is not None:
        typer.echo(f"\nAPI key of user {FIRST_USER}, shown only now:\n\n  export TIGER_API_KEY={key}\n")


@app.command()
def down(home: Home = DEFAULT_HOME) -> None:
    """Stop the processes that `tiger up` started for this home, and no others. Data and keys stay."""
    try:
        open_instance(home).down(typer.echo)
    except InstanceError as error:
        raise _failed(error) from error


@app.command()
def status(home: Home = DEFAULT_HOME) -> None:
    """Show the state of the instance. Exits with 0 if requests are answered, with 1 otherwise."""
    instance = open_instance(home)
    try:
        found = instance.status()
    except InstanceError as error:
        raise _failed(error) from error
    rows = Rows("", "status", "replicas", "", of_lines=True)
    rows.add("storage", found.storage)
    rows.add("Ray", found.ray)
    rows.add("application", found.application.status, "", found.application.message)
    for each in found.application.deployments:
        rows.add(f"  {each.name}", each.status, f"{each.replicas}/{each.target_replicas}", each.message)
    rows.add("readyz", "ready" if found.is_ready else "not ready", "", "" if found.is_ready else found.detail)
    rows.show()
    if found.is_ready:
        _show_urls(instance)
    raise typer.Exit(0 if found.is_ready else 1)


@app.command()
def models(home: Home = DEFAULT_HOME) -> None:
    """List the base models and the private models of the user whose key is in TIGER_API_KEY."""
    url = f"{open_instance(home).url}/v1/models"
    headers = {"Authorization": f"Bearer {_given_key()}"}
    try:
        answer = httpx.get(url, headers=headers, timeout=30, trust_env=False)
    except httpx.HTTPError as error:
        raise _failed(
            f"{url} does not answer ({type(error).__name__}): is it up? See `tiger status`."
        ) from error
    if answer.is_error:
        raise _failed(answer.json()["error"]["message"])
    rows = Rows("id", "name", "parent", "revision", "last modified", "description")
    for model in answer.json():
        name = model["name"] + (" (default)" if model["default_model"] else "")
        revision, modified = str(model["revision"]), model["last_modified"]
        rows.add(model["id"], name, model.get("parent_model", "-"), revision, modified, model["description"])
    rows.show()


@app.command()
def demo(home: Home = DEFAULT_HOME) -> None:
    """Create a model, teach it with rewards until it answers differently, and show the difference.

    This uses the key in TIGER_API_KEY. If there is none, it makes a key and revokes it at the end.
    """
    instance = open_instance(home)
    key = _given_key()
    own = "" if key else ApiKeys(instance.store()).create(FIRST_USER, "tiger demo")
    try:
        Demo(instance.url, key or own, lambda line: typer.echo(visible(line))).run()
    except httpx.HTTPError as error:
        raise _failed(error) from error
    finally:
        if own:
            ApiKeys(instance.store()).revoke(hash_key(own))


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help=f"{log_files.GROUPS}. Default: all of them.")] = None,
    home: Home = DEFAULT_HOME,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show also the lines that are written from now on.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", help="Number of lines of each file.")
    ] = log_files.TAIL_LINES,
) -> None:
    """Show the ends of this instance's log files."""
    paths = log_files.log_files(open_instance(home).home, name)
    if not paths:
        raise _failed(f"no logs of {name or 'this instance'} (there are: {log_files.GROUPS})")
    for path in paths:
        typer.secho(f"==> {path}", bold=True)
        typer.echo("\n".join(map(visible_lines, log_files.tail(path, lines))))
    if follow:
        try:
            for path, line in log_files.follow(paths):
                typer.echo(f"{path.stem}: {visible_lines(line)}")
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


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
        typer.echo(_open_keys(home, config).create(user, name, ends))
    except ValidationError:
        raise _failed(f"{user!r} is not a user name: it must match {USER_PATTERN}") from None
    except TigerError as error:
        raise _failed(error) from error


@keys_app.command("list")
def list_keys(home: Home = DEFAULT_HOME, config: Config = None) -> None:
    """List the keys: id, user, name, times of creation and expiry, and hour of the last use, in UTC."""
    try:
        found = _open_keys(home, config).list()
    except TigerError as error:
        raise _failed(error) from error
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
        revoked = _open_keys(home, config).revoke(name)
    except (KeyNotIdentified, TigerError) as error:
        raise _failed(error) from error
    typer.echo(f"revoked {revoked.id}, {revoked.name!r} of {revoked.user}")


def open_instance(
    home: Path, config: str | None = None, port: int | None = None, dashboard_port: int | None = None
) -> Instance:
    """Returns the instance of a home. Exits with a message if its settings cannot be read."""
    try:
        return Instance(home, config, port, dashboard_port)
    except FileNotFoundError as error:
        raise _failed(f"no such config: {error.filename}") from error
    except ValidationError as error:
        raise _failed(f"the settings are wrong: {error}") from error


def _configuration(home: Path) -> str:
    """Returns the configuration of the last time, or else the one for this machine."""
    if remembered := StateFile(home.expanduser() / STATE_FILE).read().config:
        return remembered
    try:
        chosen = ConfigurationChoice().choose()
    except InstanceError as error:
        raise _failed(error) from error
    typer.echo(f"configuration: {chosen}")
    return chosen


def _open_keys(home: Path, config: str | None) -> ApiKeys:
    """Returns the keys of the instance. Without one, as on a cluster, the settings name the storage."""
    instance = open_instance(home, config)
    try:
        store = instance.store()
        if not instance.exists:
            # Keys can be made before the application runs for the first time, so the bucket may not exist.
            store.probe()
    except (InstanceError, TigerError, StorageUnfit) as error:
        raise _failed(error) from error
    return ApiKeys(store)


def _given_key() -> str:
    """Returns the key in the environment. Every user of the machine could see it in a command line."""
    return os.environ.get("TIGER_API_KEY", "")


def _expiry(text: str) -> datetime:
    """Returns the time of expiry. Exits with a message if the text is neither days nor a future time."""
    days = DAYS_PATTERN.fullmatch(text)
    if days is not None and int(days[1]):
        return utc_now() + timedelta(days=int(days[1]))
    try:
        return parse_expiry(text)
    except ValueError as error:
        raise _failed(f"--expires {text}: {error}, or days, for example 90d") from None


def _shown(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _show_urls(instance: Instance) -> None:
    typer.echo(f"\n  API            {instance.url}")
    typer.echo(f"  interactive    {instance.url}/docs")
    typer.echo(f"  Ray dashboard  {instance.dashboard_url}  (token: {instance.token_path})")


def _failed(reason: object) -> typer.Exit:
    """Prints the reason and returns an exception, which the caller raises."""
    typer.secho(
        f"tiger: {visible_lines(reason)}", fg=typer.colors.RED if sys.stderr.isatty() else None, err=True
    )
    return typer.Exit(1)


if __name__ == "__main__":
    app()
