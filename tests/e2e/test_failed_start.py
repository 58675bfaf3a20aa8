"""An instance of its own, whose engine cannot start."""

from pathlib import Path

import pytest

from serve_app.instance import ray_head
from serve_app.instance.instance import Instance
from serve_app.instance.processes import InstanceError, wait_until
from tests.support.storage import free_port

# The weights allow 512 tokens.
CONFIG = """
default_model: tiny
models:
  - id: tiny
    name: Tiny
    description: It has random weights.
    last_modified: 2024-11-01T00:00:00.000Z
    source: {source}
    max_context_tokens: 4096
    serving:
      accelerator: {{kind: cpu}}
      engine: {{dtype: float32, enforce_eager: true, max_loras: 1}}
      environment: {{HF_HUB_OFFLINE: "1"}}
"""


def names(instance: Instance) -> list[str]:
    return [each.name for each in instance.status().applications]


def test_up_says_once_what_vllm_refuses_and_waits_for_no_other_try(
    tmp_path: Path, tiny_weights: Path
) -> None:
    """Serve would try three times. The second of these tries begins when the first has failed."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(source=tiny_weights))
    instance = Instance(tmp_path / "home", str(config), free_port(), free_port())
    try:
        with pytest.raises(InstanceError) as caught:
            instance.up(lambda line: None)
        reason = str(caught.value)
        assert reason.startswith("base model tiny cannot start: ModelServer:tiny: RuntimeError: ")
        assert "max_model_len (4096)" in reason and "512" in reason and "\n" not in reason
        logs = ray_head.session_logs(instance.home) / "serve"
        assert 1 <= len(list(logs.glob("replica_*ModelServer*"))) <= 2
        assert wait_until(lambda: names(instance) == ["tiger"], 60), "Serve would try again"
    finally:
        instance.down(lambda line: None)
