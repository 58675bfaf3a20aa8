from pathlib import Path

import pytest

from bench.gpu.scales import FULL, MANY, SCALES, Scale, configuration
from serve_app.settings import Settings

WEIGHTS = Path("/weights/llama")


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_configuration_is_valid_and_has_one_model_with_the_weights(scale: Scale) -> None:
    settings = Settings(**configuration(scale, WEIGHTS, {}))
    (model,) = settings.models
    assert (model.id, model.source) == (scale.base_model, str(WEIGHTS))
    assert settings.default_model == model.id
    assert settings.limits.max_requests_per_minute_per_user == MANY
    assert model.serving.environment["HF_HUB_OFFLINE"] == "1"


def test_engine_arguments_of_the_command_win() -> None:
    values = configuration(FULL, WEIGHTS, {"max_loras": 32, "gpu_memory_utilization": 0.3})
    engine = Settings(**values).models[0].serving.engine
    assert (engine["max_loras"], engine["gpu_memory_utilization"]) == (32, 0.3)
    assert engine["max_num_seqs"] == FULL.engine["max_num_seqs"]


def test_one_user_may_have_all_requests_of_the_largest_level() -> None:
    """A quarter of the engine's places stays free for other users, and all requests are of one user."""
    settings = Settings(**configuration(FULL, WEIGHTS, {}))
    places = settings.models[0].serving.engine["max_num_seqs"]
    assert max(FULL.levels) <= places * 3 // 4
    assert max(FULL.levels) <= settings.limits.max_concurrent_generations_per_user


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_part_has_the_time_it_needs(scale: Scale) -> None:
    assert set(scale.needs_s) == {"up", "serving", "adapters", "loop", "two trainings", "training"}
