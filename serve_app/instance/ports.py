"""TCP ports of an instance: free ones for what only its own processes use, a clear error for a taken one."""

import random
import socket

import psutil

from serve_app.instance.processes import InstanceError

LOOPBACK = "127.0.0.1"
# Below the kernel's range for outgoing connections, which could take a port between choice and use.
PRIVATE_PORTS = range(20000, 30000)


class PortTaken(InstanceError):
    """A port that the operator chose, or the default one, belongs to somebody else."""

    def __init__(self, port: int, use: str, remedy: str) -> None:
        super().__init__(port, use, remedy)

    def __str__(self) -> str:
        port, use, remedy = self.args
        return f"port {port} ({use}) is taken by another process: {remedy}"


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections in TIME_WAIT of an earlier server are no obstacle to a server, nor to this probe.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """`count` different ports nobody listens on, chosen at random so that two instances rarely meet."""
    chosen: list[int] = []
    for port in random.sample(PRIVATE_PORTS, len(PRIVATE_PORTS)):
        if len(chosen) == count:
            break
        if is_free(port, "0.0.0.0"):
            chosen.append(port)
    if len(chosen) < count:
        raise InstanceError(
            f"fewer than {count} free ports between {PRIVATE_PORTS[0]} and {PRIVATE_PORTS[-1]}"
        )
    return chosen


def interface_of(address: str) -> str:
    """The network interface that has this address."""
    return next(
        name for name, known in psutil.net_if_addrs().items() if address in {it.address for it in known}
    )
