"""The commands `tiger backup` and `tiger restore`.

Exit codes: 0 done; 1 not done, and the message says why; 2 wrong arguments; 3 done or not, bytes are damaged;
130 interrupted. A command that did not end is repeated, and goes on where it was.
"""

import configparser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from registry.backup.backup import Backup
from registry.backup.directory import DirectoryPlace
from registry.backup.errors import BackupDamaged, BackupError
from registry.backup.manifest import BackupManifest
from registry.backup.place import Place
from registry.backup.progress import amount
from registry.backup.restore import Restore, check_backup
from registry.client import build_client, read_credentials
from registry.errors import TigerError, Unavailable
from registry.settings import StorageSettings
from registry.store import ObjectStore, StorageUnfit
from serve_app.chosen_instance import DEFAULT_HOME, Config, Home, failed, open_instance
from serve_app.instance.instance import Instance
from serve_app.instance.processes import InstanceError
from serve_app.terminal import visible_lines

DAMAGED = 3
INTERRUPTED = 130

PlaceName = Annotated[
    str,
    typer.Argument(metavar="DIRECTORY|s3://BUCKET/PREFIX", help="Place of the backup.", show_default=False),
]
Endpoint = Annotated[
    str | None,
    typer.Option(
        envvar="TIGER_BACKUP_ENDPOINT_URL",
        help="URL of the S3-compatible server of the backup; without this option, AWS.",
        show_default=False,
    ),
]
Region = Annotated[
    str, typer.Option(envvar="TIGER_BACKUP_REGION", help="Region of the bucket of the backup.")
]
Credentials = Annotated[
    Path | None,
    typer.Option(
        envvar="TIGER_BACKUP_CREDENTIALS",
        help="Credentials file of AWS for the bucket of the backup; its default profile is used; "
        "without this option, the usual places of AWS.",
        show_default=False,
    ),
]


def backup(
    place: PlaceName,
    endpoint_url: Endpoint = None,
    region: Region = "us-east-1",
    credentials: Credentials = None,
    home: Home = DEFAULT_HOME,
    config: Config = None,
) -> None:
    """Copy the bucket to an empty place, while the service runs. Each backup needs a place of its own.

    Every copy is read back and compared. A backup that was interrupted is repeated with the same command.
    """
    with _told():
        target = _open_place(place, endpoint_url, region, credentials, is_new=True)
        with _read_bucket(open_instance(home, config)) as store:
            manifest = Backup(store, target, _show).make()
    _show(f"complete: {_amount(manifest)}")
    _tell_damage(manifest)


def restore(
    place: PlaceName,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete what the bucket has, but not its audit log.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check every object of the backup, and change nothing.")
    ] = False,
    endpoint_url: Endpoint = None,
    region: Region = "us-east-1",
    credentials: Credentials = None,
    home: Home = DEFAULT_HOME,
    config: Config = None,
) -> None:
    """Make the bucket the one of the backup. The service must be stopped, and the bucket must be empty.

    A restore that was interrupted is repeated with the same command. Until then the service does not start.
    """
    with _told():
        source = _open_place(place, endpoint_url, region, credentials, is_new=False)
        if check:
            manifest = check_backup(source, _show)
        else:
            with _written_bucket(open_instance(home, config)) as store:
                manifest = Restore(source, store, _show).run(replace)
    _show(
        f"{'whole' if check else 'restored'}: {_amount(manifest)}, of {manifest.begun:%Y-%m-%d %H:%M:%S} UTC"
    )
    _tell_damage(manifest)


def _open_place(
    name: str, endpoint_url: str | None, region: str, credentials: Path | None, *, is_new: bool
) -> Place:
    """Returns the place with this name. Exits with a message if it is none."""
    if not name.startswith("s3://"):
        return DirectoryPlace(Path(name).expanduser().resolve())
    parts = urlsplit(name)
    if not parts.netloc:
        raise failed(f"{name} names no bucket: give s3://BUCKET/PREFIX")
    prefix = parts.path.strip("/")
    settings = StorageSettings(
        endpoint_url=endpoint_url,
        region=region,
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
    )
    if credentials is not None:
        try:
            read_credentials(credentials)
        except (OSError, KeyError, ValueError, configparser.Error) as error:
            raise failed(f"--credentials {credentials}: no default profile of AWS can be read") from error
    store = ObjectStore(settings, partial(build_client, credentials_path=credentials))
    try:
        if is_new:
            store.ensure_bucket()
        store.list("", limit=1)
    except Unavailable as error:
        raise failed(f"{name} cannot be reached, or refuses the credentials") from error
    return store


@contextmanager
def _read_bucket(instance: Instance) -> Iterator[ObjectStore]:
    """Yields the bucket, also while the application uses it. Stopped storage is started for the block."""
    if not instance.exists and instance.storage.is_own:
        raise InstanceError(
            f"there is nothing to back up: {instance.home} was never up, and no endpoint is set"
        )
    if not instance.storage.is_running:
        with instance.storage_alone(_show) as store:
            yield store
    else:
        yield instance.store()


@contextmanager
def _written_bucket(instance: Instance) -> Iterator[ObjectStore]:
    """Yields the bucket, which the application of this instance does not use meanwhile.

    Without an endpoint in the settings, a home that was never up gets storage of its own. On a cluster,
    nothing here can see if the application runs.
    """
    if instance.exists or instance.storage.is_own:
        with instance.storage_alone(_show) as store:
            yield store
    else:
        yield instance.store()


@contextmanager
def _told() -> Iterator[None]:
    """Turns errors into messages and exit codes."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: repeat the command, and it goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except BackupDamaged as error:
        failed(error)
        raise typer.Exit(DAMAGED) from error
    except (BackupError, InstanceError, TigerError, StorageUnfit, OSError) as error:
        raise failed(error) from error


def _tell_damage(manifest: BackupManifest) -> None:
    """Exits with a code of its own if the bucket had lost bytes before the backup was made."""
    if manifest.damaged:
        failed(
            "the bucket had lost these objects, or their bytes, before the backup was made:\n"
            + "\n".join(manifest.damaged)
        )
        raise typer.Exit(DAMAGED)


def _amount(manifest: BackupManifest) -> str:
    return amount(len(manifest.objects), manifest.size_bytes)


def _show(line: str) -> None:
    typer.echo(visible_lines(line))
