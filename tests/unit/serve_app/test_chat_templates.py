"""The chat template of a base model's configuration is the one that vLLM's layer gets."""

from pathlib import Path

import pytest
from ray.serve.llm import LLMConfig

from serve_app.app import llm_config
from serve_app.settings import CONFIG_DIRECTORY, load_settings
from training.chat_template import template_path


@pytest.mark.parametrize("profile", sorted(path.stem for path in CONFIG_DIRECTORY.glob("*.yaml")))
def test_every_configured_template_is_there_and_given_to_vllm(profile: str) -> None:
    settings = load_settings(profile)
    for model in settings.models:
        config: LLMConfig = llm_config(model, settings)
        given = config.get_engine_config().frontend_kwargs.get("chat_template")
        if model.chat_template is None:
            assert given is None
        else:
            assert Path(given) == template_path(model.chat_template)


@pytest.mark.parametrize("profile", ["local", "test"])
def test_models_that_call_tools_on_a_laptop_are_shown_them(profile: str) -> None:
    """The template that comes with SmolLM2 does not show tools."""
    for model in load_settings(profile).models:
        assert model.chat_template == "smollm2"
