"""Finds free TCP ports for an instance's own processes, and makes a clear error for a port that is taken."""

import random
import socket

import psutil

from serve_app.instance.processes import InstanceError

LOOPBACK = "127.0.0.1"
# These are below the kernel's range for outgoing connections, which could take a port before it is used.
PRIVATE_PORTS = range(20000, 30000)


class PortTaken(InstanceError):
    """The port that the operator chose, or the default one, is used by another process."""

    def __init__(self, port: int, use: str, remedy: str) -> None:
        super().__init__(port, use, remedy)

    def __str__(self) -> str:
        port, use, remedy = self.args
        return f"port {port} ({use}) is taken by another process: {remedy}"


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Returns True if a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # With this option, connections in TIME_WAIT of an earlier server do not block a server or this probe.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Returns `count` different free ports, chosen at random so that two instances rarely choose the same."""
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
    """Returns the name of the network interface that has this address."""
    return next(
        name for name, known in psutil.net_if_addrs().items() if address in {it.address for it in known}
    )
