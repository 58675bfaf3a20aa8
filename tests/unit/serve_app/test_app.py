"""Ray Serve LLM gets a configuration with which an engine starts as we need it."""

from importlib.util import find_spec

import pytest
from ray.serve.llm import LLMConfig

from serve_app.app import llm_config
from serve_app.model_server.weights_in_place import WeightsInPlace
from serve_app.settings import CONFIG_DIRECTORY, load_settings

PROFILES = sorted(path.stem for path in CONFIG_DIRECTORY.glob("*.yaml"))


def configurations(profile: str) -> list[LLMConfig]:
    settings = load_settings(profile)
    return [llm_config(model, settings) for model in settings.models]


@pytest.mark.parametrize("profile", PROFILES)
def test_no_engine_reports_its_use(profile: str) -> None:
    for config in configurations(profile):
        assert config.runtime_env["env_vars"]["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize("profile", PROFILES)
def test_weights_are_left_to_vllm_under_their_own_name(profile: str) -> None:
    settings = load_settings(profile)
    for model in settings.models:
        config = llm_config(model, settings)
        assert config.callback_config.callback_class is WeightsInPlace
        expected = model.weights_path(settings.weights_directory.expanduser())
        assert config.get_engine_config().actual_hf_model_id == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_worker_of_an_engine_is_ours_for_its_kind(profile: str) -> None:
    settings = load_settings(profile)
    for model in settings.models:
        module, _, name = llm_config(model, settings).engine_kwargs["worker_cls"].rpartition(".")
        kind = model.serving.accelerator.kind
        assert module == f"serve_app.model_server.vllm_patches.{kind}_worker" and name == "Worker"
        assert find_spec(module) is not None
