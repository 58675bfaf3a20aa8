"""An instance whose engine cannot start, with an instance of its own."""

from pathlib import Path

import pytest

from serve_app.instance import ray_head
from serve_app.instance.instance import Instance
from serve_app.instance.processes import InstanceError
from tests.support.storage import free_port

CONFIG = """
default_model: tiny
models:
  - id: tiny
    name: Tiny
    description: It has random weights.
    last_modified: 2024-11-01T00:00:00.000Z
    source: {source}
    max_context_tokens: 512
    serving:
      accelerator: {{kind: cpu}}
      max_adapters: 2
      engine: {{dtype: float32, enforce_eager: true, max_num_seqs: 4, max_loras: 1, {argument}}}
      environment: {{VLLM_CPU_KVCACHE_SPACE: "1", VLLM_CPU_OMP_THREADS_BIND: nobind, HF_HUB_OFFLINE: "1"}}
"""


def reason_of(instance: Instance) -> str:
    with pytest.raises(InstanceError) as caught:
        instance.up(lambda line: None)
    return str(caught.value)


def replicas_tried(instance: Instance) -> int:
    return len(list((ray_head.session_logs(instance.home) / "serve").glob("replica_*ModelServer*")))


def test_up_says_once_why_the_engine_does_not_start(tmp_path: Path, tiny_weights: Path) -> None:
    """Serve would try three times. The second of these tries has begun when the first has failed."""
    config = tmp_path / "config.yaml"
    http_port, dashboard_port = free_port(), free_port()

    def instance_with(argument: str) -> Instance:
        config.write_text(CONFIG.format(source=tiny_weights, argument=argument))
        return Instance(tmp_path / "home", str(config), http_port, dashboard_port)

    instance = instance_with("no_such_argument: 1")
    try:
        reason = reason_of(instance)
        assert reason == "the application cannot start: ValueError: Unknown engine argument: no_such_argument"
        assert replicas_tried(instance) == 0

        # The cache of one block is found to be too small by the engine, in a process of its own.
        instance = instance_with("num_gpu_blocks_override: 1")
        reason = reason_of(instance)
        assert reason.startswith("the application cannot start: ModelServer:tiny: ValueError: ")
        assert "KV cache" in reason and "root cause" not in reason and "\n" not in reason
        assert replicas_tried(instance) <= 2
        assert instance.status().application.status == "NOT_STARTED"
    finally:
        instance.down(lambda line: None)
