"""The `tiger` command: starts and stops an instance and shows its state.

The files `*_command.py` and `*_commands.py` have the other commands: keys, deploy, audit, backup, release.
"""

import os
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from registry.keys import hash_key
from registry.operator_actions import OperatorKeys
from serve_app.audit_command import show_audit
from serve_app.backup_commands import backup, restore
from serve_app.chosen_instance import (
    DEFAULT_HOME,
    FAULTS,
    Config,
    Home,
    chosen_configuration,
    failed,
    open_instance,
    open_store,
)
from serve_app.demo import Demo
from serve_app.deploy_command import deploy, environment
from serve_app.instance import log_files
from serve_app.instance.environment import loopback_without_proxy
from serve_app.instance.instance import FIRST_USER, Instance
from serve_app.instance.processes import InstanceError
from serve_app.key_commands import keys_app
from serve_app.release_command import release
from serve_app.terminal import Rows, visible, visible_lines
from serve_app.version import VERSION

app = typer.Typer(
    help="A self-hosted service for private language models: start it, see its state, manage API keys.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys_app, name="keys")
app.command()(deploy)
app.command()(environment)
app.command("audit")(show_audit)
app.command()(backup)
app.command()(restore)
app.command()(release)


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
    monitoring: Annotated[
        bool | None,
        typer.Option(
            "--monitoring/--no-monitoring",
            help="Start Prometheus and Grafana, if they are installed. [default: as the last time, or no]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start everything that is not running, and wait until it is ready.

    It is safe to repeat this command: running processes are not touched, crashed ones are started again, and
    no stored data is lost. The command prints a first API key if there is none yet.
    """
    instance = open_instance(home, config or chosen_configuration(home), port, dashboard_port, monitoring)
    start = time.monotonic()
    try:
        key = instance.up(lambda line: typer.echo(f"[{time.monotonic() - start:6.1f} s] {line}"))
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: what this command started was stopped", err=True)
        raise typer.Exit(130) from None
    except FAULTS as error:
        raise failed(error) from error
    _show_urls(instance)
    if key is not None:
        typer.echo(f"\nAPI key of user {FIRST_USER}, shown only now:\n\n  export TIGER_API_KEY={key}\n")


@app.command()
def down(home: Home = DEFAULT_HOME) -> None:
    """Stop the processes that `tiger up` started for this home, and no others. Data and keys stay."""
    try:
        open_instance(home).down(typer.echo)
    except InstanceError as error:
        raise failed(error) from error


@app.command()
def status(home: Home = DEFAULT_HOME) -> None:
    """Show the state of the instance. Exits with 0 if requests are answered, with 1 otherwise."""
    instance = open_instance(home)
    try:
        found = instance.status()
    except InstanceError as error:
        raise failed(error) from error
    rows = Rows("", "status", "replicas", "", of_lines=True)
    rows.add("storage", found.storage)
    rows.add("Ray", found.ray)
    for application in found.applications:
        rows.add(application.name, application.status, "", application.message)
        for each in application.deployments:
            rows.add(f"  {each.name}", each.status, f"{each.replicas}/{each.target_replicas}", each.message)
    for wait in found.waits:
        rows.add(wait.subject, "WAITS", "", wait.as_text())
    for name, state in instance.monitoring.states().items():
        rows.add(name, state)
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
        raise failed(
            f"{url} does not answer ({type(error).__name__}): is it up? See `tiger status`."
        ) from error
    if answer.is_error:
        raise failed(answer.json()["error"]["message"])
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
    own = "" if key else _key_of_demo(home)
    try:
        Demo(instance.url, key or own, lambda line: typer.echo(visible(line))).run()
    except httpx.HTTPError as error:
        raise failed(error) from error
    finally:
        if own:
            OperatorKeys(instance.store()).revoke(hash_key(own))


def _key_of_demo(home: Path) -> str:
    try:
        return OperatorKeys(open_store(home, None)).create(FIRST_USER, "tiger demo")
    except FAULTS as error:
        raise failed(error) from error


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
        raise failed(f"no logs of {name or 'this instance'} (there are: {log_files.GROUPS})")
    for path in paths:
        typer.secho(f"==> {path}", bold=True)
        typer.echo("\n".join(map(visible_lines, log_files.tail(path, lines))))
    if follow:
        try:
            for path, line in log_files.follow(paths):
                typer.echo(f"{path.stem}: {visible_lines(line)}")
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


def _given_key() -> str:
    """Returns the key in the environment. Every user of the machine could see it in a command line."""
    return os.environ.get("TIGER_API_KEY", "")


def _show_urls(instance: Instance) -> None:
    typer.echo(f"\n  console, API   {instance.url}")
    typer.echo(f"  documentation  {instance.url}/docs")
    typer.echo(f"  Ray dashboard  {instance.dashboard_url}  (token: {instance.token_path})")
    for name, url in instance.monitoring.urls().items():
        typer.echo(f"  {name:<13}  {url}")


if __name__ == "__main__":
    app()
