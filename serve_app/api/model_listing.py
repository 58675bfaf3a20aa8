"""Models as JSON lines, for `GET /v1/models`.

Lines joined by commas are the elements of the JSON array, because no line end is inside a JSON string.
"""

from collections.abc import Iterable

from serve_app.settings import BaseModelSettings, Settings
from serve_app.wire.models import ModelInfo


def base_models(settings: Settings) -> list[BaseModelSettings]:
    """Returns the base models in configured order, the default first."""
    return sorted(settings.models, key=lambda model: model.id != settings.default_model)


def base_infos(settings: Settings) -> list[ModelInfo]:
    return [ModelInfo.of_base(model, model.id == settings.default_model) for model in base_models(settings)]


def as_lines(infos: Iterable[ModelInfo]) -> bytes:
    """Returns one JSON object per line, each with its line end."""
    return "".join(info.model_dump_json(exclude_none=True) + "\n" for info in infos).encode()


def as_array(lines: bytes) -> bytes:
    return b"[" + lines.rstrip(b"\n").replace(b"\n", b",") + b"]"
