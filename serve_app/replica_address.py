"""Makes a replica listen for other deployments only at the address of its node.

Ray Serve 2.60 has no setting for this: a replica binds `[::]:0` after its deployment's constructor has
returned, and so listens at all addresses of the machine. Others find it by the address of its node, which is
loopback on one machine.
"""

from collections.abc import Callable
from typing import Any

import ray

from serve_app.ray_private import build_address, replica

EVERYWHERE = "[::]:0"


def listen_at_the_node() -> None:
    """Changes Serve in this process. The constructor of every deployment calls it."""
    replica.add_port_to_grpc_server = _narrowed(replica.add_port_to_grpc_server)


def _narrowed(add_port: Callable[[Any, str], int]) -> Callable[[Any, str], int]:
    def add(server: Any, address: str) -> int:
        if address == EVERYWHERE:
            address = build_address(ray.util.get_node_ip_address(), 0)
        return add_port(server, address)

    return add
