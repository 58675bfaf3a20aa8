"""A replica starts no engine without our plugins."""

import tomllib
from pathlib import Path

import pytest

from serve_app.model_server.vllm_patches.plugins import GROUP, PLUGINS, PREFIX, require_plugins

ROOT = Path(__file__).resolve().parents[5]
ALL = ",".join(PREFIX + name for name in PLUGINS)


def test_plugins_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(project["entry-points"][GROUP]) == sorted(PREFIX + name for name in PLUGINS)


@pytest.mark.parametrize("environment", [{}, {"VLLM_PLUGINS": ALL}, {"VLLM_PLUGINS": f"others,{ALL}"}])
def test_engine_may_start_with_all_plugins(environment: dict[str, str]) -> None:
    require_plugins(environment)


@pytest.mark.parametrize("allowed", ["", "tiger_grouped_lora", ALL.removesuffix("tiger_patient_wait")])
def test_engine_may_not_start_without_a_plugin(allowed: str) -> None:
    with pytest.raises(RuntimeError, match="VLLM_PLUGINS leaves out tiger_"):
        require_plugins({"VLLM_PLUGINS": allowed})
