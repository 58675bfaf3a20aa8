"""Connects the workers of one run, on one machine or over the network of a cluster.

    one worker                       there is no process group
    several on a loopback address    they meet in a private file, and exchange their tensors over loopback
    several on a network             as Ray does it: at a port of the first worker, without authentication

Anybody who can reach the store in which torch's workers meet may write to it, and the workers read that. On
one machine this would be any of its users, hence the file. In a cluster the network must keep others away
(docs/network.md).
"""

import os
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psutil
import ray
from ray.train.torch import TorchConfig

from training.worker.ray_train_private import (
    BaseWorkerGroup,
    TorchBackend,
    set_torch_variables,
    set_up_process_group,
)

INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass
class PrivateTorchConfig(TorchConfig):
    """Ray's configuration of torch, with a private process group.

    `directory` is private. If the workers' address is loopback, it is on the machine that they run on.
    """

    directory: str = ""

    @property
    def backend_cls(self) -> type[TorchBackend]:
        return _PrivateBackend


class _PrivateBackend(TorchBackend):
    # With True, each worker would see all GPUs of its node, and transformers would choose the first of them
    # for every worker: the variables with a worker's rank are hidden from it (training.worker.loop).
    share_cuda_visible_devices = False

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: PrivateTorchConfig) -> None:
        if len(worker_group) == 1:
            worker_group.execute(set_torch_variables)
            return
        if not all(worker_group.execute(stay_on_loopback)):
            super().on_start(worker_group, backend_config)
            return
        worker_group.execute(set_torch_variables)
        meeting = Path(backend_config.directory) / f"workers-{secrets.token_hex(8)}"
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    set_up_process_group,
                    backend=backend_config.backend,
                    world_rank=rank,
                    world_size=len(worker_group),
                    init_method=meeting.as_uri(),
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(len(worker_group))
            ]
        )


def stay_on_loopback() -> bool:
    """Keep this worker's connections on loopback, if Ray knows its node by a loopback address.

    Returns whether that is so.
    """
    address = ray.util.get_node_ip_address()
    if not ip_address(address).is_loopback:
        return False
    interface = next(
        name for name, known in psutil.net_if_addrs().items() if address in {it.address for it in known}
    )
    os.environ.update(dict.fromkeys(INTERFACE_VARIABLES, interface))
    return True
