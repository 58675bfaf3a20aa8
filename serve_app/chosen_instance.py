"""The instance that the options of a command choose, and the message of a command that fails."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from registry.errors import TigerError
from registry.layout import BucketLayout
from registry.store import ObjectStore, StorageUnfit
from serve_app.instance.configuration_choice import ConfigurationChoice
from serve_app.instance.instance import Instance
from serve_app.instance.processes import InstanceError
from serve_app.instance.state import STATE_FILE, StateFile
from serve_app.terminal import visible_lines

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
FAULTS = (InstanceError, TigerError, StorageUnfit)
"""The errors whose messages are for the operator. Each command shows them, and exits with 1."""


def open_instance(
    home: Path,
    config: str | None = None,
    port: int | None = None,
    dashboard_port: int | None = None,
    monitoring: bool | None = None,
) -> Instance:
    """Returns the instance of a home. Exits with a message if its settings cannot be read."""
    try:
        return Instance(home, config, port, dashboard_port, monitoring=monitoring)
    except FileNotFoundError as error:
        raise failed(f"no such config: {error.filename}") from error
    except ValidationError as error:
        raise failed(f"the settings are wrong: {error}") from error


def open_store(home: Path, config: str | None) -> ObjectStore:
    """Returns the bucket of the instance. Without one, as on a cluster, the settings name the storage.

    Exits with a message if another release wrote the bucket. Nothing is upgraded here, because a service of
    an older release may use the bucket now.
    """
    instance = open_instance(home, config)
    try:
        store = instance.store()
        if not instance.exists:
            # Keys can be made before the application runs for the first time, so the bucket may not exist.
            store.probe()
        BucketLayout(store).require_current()
    except FAULTS as error:
        raise failed(error) from error
    return store


def chosen_configuration(home: Path) -> str:
    """Returns the configuration of the last time, or else the one for this machine."""
    if remembered := StateFile(home.expanduser() / STATE_FILE).read().config:
        return remembered
    try:
        chosen = ConfigurationChoice().choose()
    except InstanceError as error:
        raise failed(error) from error
    typer.echo(f"configuration: {chosen}")
    return chosen


def failed(reason: object) -> typer.Exit:
    """Prints the reason and returns an exception, which the caller raises."""
    typer.secho(
        f"tiger: {visible_lines(reason)}", fg=typer.colors.RED if sys.stderr.isatty() else None, err=True
    )
    return typer.Exit(1)
