"""Training workers of one machine meet. tests/e2e/test_machine.py tests the ports of real ones."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.worker.process_group import PrivateTorchConfig


class LoneWorker:
    """A worker group, as Ray's backends see it, that consists of this process alone."""

    def __init__(self) -> None:
        self.executed: list[str] = []

    def __len__(self) -> int:
        return 1

    def execute(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> list[Any]:
        self.executed.append(function.__name__)
        return []


def test_a_lone_worker_meets_nobody(tmp_path: Path) -> None:
    group = LoneWorker()
    config = PrivateTorchConfig(backend="gloo", directory=str(tmp_path))
    config.backend_cls().on_start(group, config)
    assert group.executed == ["_set_torch_distributed_env_vars"]
    assert list(tmp_path.iterdir()) == [] and "MASTER_PORT" not in os.environ


def test_each_worker_sees_only_its_own_gpu() -> None:
    """Ray Train asks this attribute. With True, transformers would put every worker on the first GPU."""
    assert PrivateTorchConfig().backend_cls.share_cuda_visible_devices is False
