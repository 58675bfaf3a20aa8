"""Renders a settings file as the Serve config of a cluster or of an instance.

cluster     every node listens at the address that the others can reach
instance    Serve listens on loopback, and HAProxy at `http.host`
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from serve_app.instance import haproxy
from serve_app.instance.processes import InstanceError
from serve_app.serve_config import serve_config

Config = dict[str, Any]

EVERY_ADDRESS = "0.0.0.0"
LINE_CHARS = 110


def cluster_config(document: Config, environment: Mapping[str, str] = os.environ) -> Config:
    """Returns the Serve config for a cluster.

    Without `http.host` it listens on all addresses. With the default of that setting, HAProxy of one node
    could not reach the replicas of another.

    Raises:
        InstanceError: the document cannot be deployed.
    """
    config = _rendered(document)
    if "host" not in (document.get("http") or {}) and haproxy.HOST_VARIABLE not in environment:
        config["http_options"]["host"] = EVERY_ADDRESS
    return config


def instance_config(document: Config, http_port: int, beside: Sequence[Config] = ()) -> Config:
    """Returns the Serve config for an instance. `beside` has the configs of other applications.

    Raises:
        InstanceError: the document cannot be deployed.
    """
    config = _rendered(document)
    config["http_options"] = {"host": haproxy.SERVE_HOST, "port": http_port}
    config["applications"] += beside
    return config


def as_yaml(config: Config) -> str:
    """Returns the Serve config as a file for `serve deploy` or KubeRay, without YAML's references."""
    return yaml.dump(config, Dumper=_PlainDumper, sort_keys=False, width=LINE_CHARS)


def _rendered(document: Config) -> Config:
    try:
        return serve_config(document)
    except ValueError as error:  # also pydantic's
        raise InstanceError(f"the settings are wrong: {error}") from error


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
