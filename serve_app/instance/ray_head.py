"""Starts and stops the Ray head of one instance, on loopback, with its own session, ports, files and token.

`ray stop` would stop every Ray on the machine, and all Rays of a user share `~/.ray`, so neither is used.
`ray start --block` watches the Ray processes that it starts. It ends them when it gets a signal to end, or
when one of them dies.
"""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import httpx

from registry.records import Record
from serve_app.instance import haproxy
from serve_app.instance.ports import LOOPBACK, free_ports, interface_of
from serve_app.instance.processes import (
    InstanceError,
    ProcessIdentity,
    start_process,
    stop_process,
    wait_until,
)

OBJECT_STORE_BYTES = 256 * 2**20
START_TIMEOUT_S = 120
STOP_GRACE_S = 20
# Deployments and trainers reserve logical CPUs. They must not wait because a small machine has few cores.
MIN_LOGICAL_CPUS = 16
# The path of a Unix socket has at most 107 characters, and Ray and HAProxy add about 80 to the directory.
MAX_TEMP_DIRECTORY_CHARS = 16
WITHOUT_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_USAGE_STATS_REPORT_URL": "nowhere:"}
"""Ray's dashboard reports even that usage statistics are disabled, unless it has no valid address."""
WORKER_PORTS = range(10002, 20000)
"""The ports that Ray gives to its workers. Ray does not start if another option uses one of them."""
PORT_OPTIONS = (
    "--port",
    "--node-manager-port",
    "--object-manager-port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--runtime-env-agent-port",
    "--metrics-export-port",
    "--ray-client-server-port",
)
# Ray reads these ports from the environment.
PORT_VARIABLES = ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT", *haproxy.PORT_VARIABLES)


class RayHead(Record):
    """A head that was started, with what another process needs to find it."""

    process: ProcessIdentity
    gcs_port: int
    dashboard_port: int


def private_directory(home: Path) -> Path:
    """Returns the directory for Ray's sockets and logs. Its path is short, and its parent is shared."""
    root = tempfile.gettempdir()
    root = root if len(root) <= MAX_TEMP_DIRECTORY_CHARS else "/tmp"
    return Path(root) / f"tiger-{sha256(str(home).encode()).hexdigest()[:8]}"


def ray_directory(home: Path) -> Path:
    """Returns Ray's own directory. Ray makes it writable for all users, so it is inside the private one."""
    return private_directory(home) / "r"


def session_logs(home: Path) -> Path:
    """Returns the directory of the logs of Ray's latest session."""
    return ray_directory(home) / "session_latest" / "logs"


def ensure_private(directory: Path) -> None:
    """Makes `directory`, or checks that it is private: another user could have made it before."""
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if directory.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InstanceError(f"{directory} is not a private directory of this user: remove it")


def ensure_token(home: Path) -> Path:
    """Returns the file with the token that Ray requires of every connection. The first call makes it."""
    path = home / "ray-token"
    if not path.exists():
        descriptor = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        path.with_suffix(".new").rename(path)
    return path


def ray_environment(home: Path, gcs_port: int) -> dict[str, str]:
    """Returns the variables that connect a process to this Ray and to no other."""
    return {
        "RAY_ADDRESS": f"{LOOPBACK}:{gcs_port}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(ensure_token(home)),
        # Despite its name, the value 0 lets Ray listen only on loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # The address where vLLM and torch listen. The default is the address of the machine's name.
        "VLLM_HOST_IP": LOOPBACK,
        "GLOO_SOCKET_IFNAME": interface_of(LOOPBACK),
        "NCCL_SOCKET_IFNAME": interface_of(LOOPBACK),
        # NCCL's server for its state, which would listen beside the workers and which nothing here asks.
        "NCCL_RAS_ENABLE": "0",
        **WITHOUT_REPORTS,
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        # The watcher is a process of 0.1 GB for each run. It only helps on machines that a cloud takes back.
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        # Otherwise process titles of Ray and vLLM would overwrite the environment in /proc, with our marker.
        "SPT_NOENV": "1",
    }


def start(home: Path, environment: Mapping[str, str], dashboard_port: int, log: Path) -> RayHead:
    """Starts a head. It is not ready yet; see `wait_until_ready`."""
    ensure_private(private_directory(home))
    directory = ray_directory(home)
    _remove_old_sessions(directory)
    directory.mkdir(exist_ok=True)
    ports = free_ports(len(PORT_OPTIONS) + len(PORT_VARIABLES))
    gcs_port, variable_ports = ports[0], ports[len(PORT_OPTIONS) :]
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--node-ip-address", "127.0.0.1", "--dashboard-host", "127.0.0.1"),
        *("--dashboard-port", str(dashboard_port), "--include-dashboard", "true"),
        *("--num-cpus", str(max(os.cpu_count() or 1, MIN_LOGICAL_CPUS))),
        *("--object-store-memory", str(OBJECT_STORE_BYTES)),
        *("--temp-dir", str(directory), "--disable-usage-stats", "--log-color", "false"),
    ]
    for option, port in zip(PORT_OPTIONS, ports, strict=False):
        command += [option, str(port)]
    own = dict(zip(PORT_VARIABLES, map(str, variable_ports), strict=True))
    own["TMPDIR"] = str(_empty_temporary_directory(home))
    own |= haproxy.environment(private_directory(home) / "h")
    process = start_process(command, {**environment, **ray_environment(home, gcs_port), **own}, log)
    return RayHead(process=process, gcs_port=gcs_port, dashboard_port=dashboard_port)


def wait_until_ready(head: RayHead, home: Path) -> bool:
    """Waits until the dashboard, which starts last, answers. Returns False if the head ended or is late."""
    wait_until(lambda: not head.process.is_alive or is_ready(head, home), START_TIMEOUT_S)
    return is_ready(head, home)


def is_ready(head: RayHead, home: Path) -> bool:
    """Returns True if this head answers, and not another one that now has its port."""
    if not head.process.is_alive:
        return False
    url = f"http://127.0.0.1:{head.dashboard_port}/api/version"
    headers = {"Authorization": f"Bearer {ensure_token(home).read_text()}"}
    try:
        answer = httpx.get(url, headers=headers, timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


def stop(head: RayHead) -> None:
    stop_process(head.process, STOP_GRACE_S)


def _empty_temporary_directory(home: Path) -> Path:
    """Returns the emptied temporary directory of the Ray processes.

    Killed processes leave adapters and other files there. Each start deletes them.
    """
    directory = private_directory(home) / "t"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    return directory


def _remove_old_sessions(directory: Path) -> None:
    """Deletes all sessions except the last one, whose logs may still be needed."""
    latest = directory / "session_latest"
    for session in directory.glob("session_2*"):
        if not latest.exists() or session.resolve() != latest.resolve():
            shutil.rmtree(session, ignore_errors=True)
