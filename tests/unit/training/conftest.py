from pathlib import Path

import pytest

from registry.store import ObjectStore
from tests.support.training_world import World


@pytest.fixture
async def world(store: ObjectStore, tmp_path: Path) -> World:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    return World(store, tmp_path)
