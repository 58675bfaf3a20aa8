"""The commands `tiger deploy` and `tiger environment`: how they are called, and how they end."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.store import ObjectStore
from serve_app.chosen_instance import DEFAULT_HOME, FAULTS, Config, Home, failed, open_instance
from serve_app.deploy import Ask, ClusterTarget, Deploy, InstanceTarget, Target
from serve_app.instance.dashboard import ADDRESS_VARIABLE, cluster_dashboard
from serve_app.instance.instance import Instance
from serve_app.instance.node_environment import exports
from serve_app.instance.processes import InstanceError
from serve_app.instance.rendered_config import as_yaml, cluster_config
from serve_app.instance.serve_client import ServeClient
from serve_app.settings import Settings, build_settings, read_document
from serve_app.terminal import visible_lines

INTERRUPTED = 130
DEFAULT_TIMEOUT_S = 1800.0

Address = Annotated[
    str | None,
    typer.Option(
        envvar=ADDRESS_VARIABLE,
        help="Address of a cluster's Ray dashboard, such as http://head:8265. [default: the instance of this "
        "home if it was ever up, or else http://localhost:8265]",
        show_default=False,
    ),
]


def deploy(
    home: Home = DEFAULT_HOME,
    config: Config = None,
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print", help="Only print the Serve config, for `serve deploy` and KubeRay.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before a change that ends replicas.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0, help="Time until everything must be as asked, in seconds.")
    ] = DEFAULT_TIMEOUT_S,
) -> None:
    """Change what runs to what a settings file asks, on this machine or on a cluster.

    The command first says which settings differ, and what restarts, is added or is removed. Then it submits
    everything and waits until it is as asked. Exit status: 0 done, or nothing to do; 1 it failed; 3 a change
    that ends replicas was not confirmed.
    """
    instance = open_instance(home, config)
    if config is None and (address or print_config or not instance.exists):
        raise failed("name the settings file with --config or TIGER_CONFIG")
    document = read_document(instance.config)
    start = time.monotonic()
    try:
        if print_config:
            return typer.echo(as_yaml(cluster_config(document)), nl=False)
        settings = build_settings(document)
        target = _target(instance, document, settings, address)
        session = Deploy(target, settings, _show, _ask(yes))
        if (end := session.is_wanted(dry_run)) is not None:
            raise typer.Exit(end)
        target.apply(lambda line: _show(f"[{time.monotonic() - start:6.1f} s] {line}"), timeout_s)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: what was submitted goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except FAULTS as error:
        raise failed(error) from error
    _show("done: everything is as asked")


def environment(home: Home = DEFAULT_HOME, config: Config = None) -> None:
    """Print the variables that Ray needs on every node of a cluster, for a shell before `ray start`."""
    typer.echo(exports(open_instance(home, config).settings))


def _target(instance: Instance, document: dict[str, Any], settings: Settings, address: str | None) -> Target:
    if address is None and instance.exists:
        if not instance.is_running:
            raise InstanceError(f"the instance of {instance.home} is down: `tiger up` starts it")
        return InstanceTarget(instance)
    dashboard = cluster_dashboard(address, os.environ, Path.home())
    _show(f"Ray dashboard: {dashboard.url}")
    config, store = cluster_config(document), ObjectStore(settings.storage)
    return ClusterTarget(ServeClient(dashboard), config, instance.config, store, _show)


def _ask(yes: bool) -> Ask | None:
    """Returns the way to ask the operator. None: there is no terminal."""
    if yes:
        return lambda question: True
    return typer.confirm if sys.stdin.isatty() else None


def _show(line: str) -> None:
    typer.echo(visible_lines(line))
