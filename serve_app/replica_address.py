"""Where a replica listens for other deployments: at the address of its node, and not at all of the machine's.

Ray Serve 2.60 has no setting for it: a replica binds `[::]:0` once its deployment's constructor has returned.
The others find it by the address of its node, which on one machine is loopback.
"""

from collections.abc import Callable
from typing import Any

import ray
from ray._common.network_utils import build_address
from ray.serve._private import replica

EVERYWHERE = "[::]:0"


def listen_at_the_node() -> None:
    """Called in the constructor of every deployment."""
    replica.add_port_to_grpc_server = _narrowed(replica.add_port_to_grpc_server)


def _narrowed(add_port: Callable[[Any, str], int]) -> Callable[[Any, str], int]:
    def add(server: Any, address: str) -> int:
        if address == EVERYWHERE:
            address = build_address(ray.util.get_node_ip_address(), 0)
        return add_port(server, address)

    return add
