"""A replica whose weights are not there says so, without the path, and asks no model hub for them."""

from pathlib import Path

import pytest

from serve_app.cannot_start import CannotStart
from serve_app.model_server.weights_place import require_weights
from serve_app.serving_settings import ServedModelSettings


def model(source: str) -> ServedModelSettings:
    return ServedModelSettings(id="one", source=source, max_context_tokens=64)


def test_directory_that_is_not_there_is_named_by_its_settings(tmp_path: Path) -> None:
    for directory, reason in ((tmp_path / "none", "is not on its node"), (tmp_path, "has no config.json")):
        with pytest.raises(CannotStart, match=reason) as refusal:
            require_weights(model(str(directory)))
        assert str(tmp_path) not in str(refusal.value)


def test_directory_with_a_model_and_a_repository_are_left_to_the_engine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    require_weights(model(str(tmp_path)))
    require_weights(model("example/repository"))
