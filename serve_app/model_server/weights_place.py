"""Checks that the weights of a base model are where its settings say, before an engine starts for them.

vLLM would take a directory that does not exist for the name of a repository, and ask the model hub for it.
"""

from pathlib import Path

from serve_app.cannot_start import CannotStart
from serve_app.serving_settings import ServedModelSettings

PLACE = "models[].source or model_paths"


def require_weights(model: ServedModelSettings) -> None:
    """Raises: CannotStart, if `source` is a directory that this node does not have."""
    directory = Path(model.source)
    if not directory.is_absolute():
        return
    if not directory.is_dir():
        raise CannotStart(f"the directory of its weights ({PLACE}) is not on its node")
    if not (directory / "config.json").is_file():
        raise CannotStart(f"the directory of its weights ({PLACE}) has no config.json")
