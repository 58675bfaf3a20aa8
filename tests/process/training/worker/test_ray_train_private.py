"""The names of Ray Train that we lean on are in the installed Ray, in the shapes that we use."""

import inspect

import pytest
import ray
from ray.train.torch import TorchConfig

from tests.support.shapes import ATTRIBUTE, Shapes, cases_of, check_names, check_overrides, check_shape
from training.worker.process_group import PrivateTorchConfig
from training.worker.ray_train_private import ControllerCallback, TorchBackend, worker_group
from training.worker.run_mark import RunMark

SEAM = "training/worker/ray_train_private.py"
SHAPES: Shapes = {
    "ray.train._internal.base_worker_group.BaseWorkerGroup": {
        "__len__": "self",
        "execute": "self, func, *args, **kwargs",
        "execute_single_async": "self, worker_index, func, *args, **kwargs",
    },
    "ray.train.torch.config": {
        "_set_torch_distributed_env_vars": "",
        "_setup_torch_process_group": "backend, world_rank, world_size, init_method, timeout_s=",
    },
    "ray.train.torch.config.TorchConfig": {
        "backend": ATTRIBUTE,
        "backend_cls": ATTRIBUTE,
        "timeout_s": ATTRIBUTE,
    },
    "ray.train.torch.config._TorchBackend": {
        "on_start": "self, worker_group, backend_config",
        "share_cuda_visible_devices": ATTRIBUTE,
    },
    "ray.train.v2._internal.exceptions.UserExceptionWithTraceback": {
        "_base_exc": ATTRIBUTE,
    },
    "ray.train.v2._internal.execution.callback.ControllerCallback": {
        "after_controller_start": "self, train_run_context",
    },
    "ray.train.v2._internal.execution.worker_group.worker_group": {
        "placement_group": "bundles, strategy=, name=, lifetime=, _soft_target_node_id=, "
        "bundle_label_selector=, topology_strategy=",
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)


def test_every_override_is_listed() -> None:
    config = PrivateTorchConfig()
    check_overrides(SEAM, PrivateTorchConfig, TorchConfig)
    check_overrides(SEAM, config.backend_cls, TorchBackend)
    check_overrides(SEAM, RunMark, ControllerCallback)


def test_ray_train_makes_its_groups_with_the_name_that_we_replace() -> None:
    assert "pg = placement_group(" in inspect.getsource(worker_group.WorkerGroup), f"ray {ray.__version__}"
