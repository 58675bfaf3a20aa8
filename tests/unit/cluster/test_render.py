"""The files of cluster/ are those that `make render` writes from configs/."""

import pytest

from cluster.render import DIRECTORY, RAYSERVICE, rendered_files
from serve_app.settings import CONFIG_DIRECTORY


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIGER_MODEL_PATHS", raising=False)


def test_files_are_as_rendered() -> None:
    for path, text in rendered_files():
        assert path.read_text() == text, f"{path.name} differs from configs/: run `make render`"


def test_every_configuration_for_operators_has_a_file() -> None:
    names = {path.stem for path in CONFIG_DIRECTORY.glob("*.yaml")} - {"test"}
    expected = {RAYSERVICE, *(DIRECTORY / f"serve.{name}.yaml" for name in names)}
    assert {path for path, _ in rendered_files()} == expected
    assert set(DIRECTORY.glob("serve.*.yaml")) == expected - {RAYSERVICE}
