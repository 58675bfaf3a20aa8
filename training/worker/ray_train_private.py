"""The names of Ray Train that are private, or that Ray does not promise to keep.

`tests/process/training/worker/test_ray_train_private.py` compares each of them with the installed Ray. They
load torch, which the controller must not load. Therefore they are not beside the other names of Ray.
"""

from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.torch.config import _set_torch_distributed_env_vars as set_torch_variables
from ray.train.torch.config import _setup_torch_process_group as set_up_process_group
from ray.train.torch.config import _TorchBackend as TorchBackend

__all__ = ["BaseWorkerGroup", "TorchBackend", "set_torch_variables", "set_up_process_group"]

OBJECTS = {
    "ray.train._internal.base_worker_group.BaseWorkerGroup": ("__len__", "execute", "execute_single_async"),
    "ray.train.torch.config._TorchBackend": ("on_start", "share_cuda_visible_devices"),
    "ray.train.torch.config.TorchConfig": ("backend", "backend_cls", "timeout_s"),
}
"""The names that `training.worker.process_group` overrides or calls on Ray's objects."""
