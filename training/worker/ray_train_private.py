"""The names of Ray Train that are private, or that Ray does not promise to keep.

`tests/process/training/worker/test_ray_train_private.py` compares each of them with the installed Ray. They
load torch, which the controller must not load. Therefore they are not beside the other names of Ray.
"""

from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.torch.config import _set_torch_distributed_env_vars as set_torch_variables
from ray.train.torch.config import _setup_torch_process_group as set_up_process_group
from ray.train.torch.config import _TorchBackend as TorchBackend
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.worker_group import worker_group

__all__ = [
    "BaseWorkerGroup",
    "ControllerCallback",
    "TorchBackend",
    "UserExceptionWithTraceback",
    "raised_in_worker",
    "set_torch_variables",
    "set_up_process_group",
    "worker_group",
]

OBJECTS = {
    "ray.train._internal.base_worker_group.BaseWorkerGroup": ("__len__", "execute", "execute_single_async"),
    "ray.train.torch.config._TorchBackend": ("on_start", "share_cuda_visible_devices"),
    "ray.train.torch.config.TorchConfig": ("backend", "backend_cls", "timeout_s"),
    "ray.train.v2._internal.exceptions.UserExceptionWithTraceback": ("_base_exc",),
    "ray.train.v2._internal.execution.callback.ControllerCallback": ("after_controller_start",),
    "ray.train.v2._internal.execution.worker_group.worker_group": ("placement_group",),
}
"""The names that `process_group` and `run_mark` override, replace or call, and that are read below."""


def raised_in_worker(failure: Exception) -> BaseException:
    """Return the error that a worker raised, without Ray's wrapper around it."""
    return failure._base_exc if isinstance(failure, UserExceptionWithTraceback) else failure
