"""Builds the settings of a deployment from what Serve gives to it: the `args` and the `user_config`.

    args (at the start) + user_config (also later, by `reconfigure`)  ->  settings  <-  TIGER_* of this node

`serve_config` decides which of the two has a setting. TIGER_* variables of the node win over both.
"""

from typing import Any, Self

from pydantic import model_validator

from serve_app.serving_settings import ServedModelSettings
from serve_app.settings import Settings, SharedSettings, with_model_paths

Document = dict[str, Any]
"""A part of a settings file, as JSON values."""


class CoreSettings(Settings):
    """The settings of the Ingress, the Catalog and the Trainer."""

    @model_validator(mode="after")
    def _model_paths_are_of_models(self) -> Self:
        """Accepts every path: a variable of the node may still name a base model that was removed."""
        return self


class ServedSettings(SharedSettings):
    """The settings of the replicas of one base model."""

    base_model: ServedModelSettings


def core_settings(args: Document, user_config: Document) -> Settings:
    """Returns the settings of the Ingress, the Catalog or the Trainer. Raises: pydantic.ValidationError."""
    return with_model_paths(CoreSettings(**_merged(args, user_config)))


def served_settings(args: Document, user_config: Document) -> ServedSettings:
    """Returns the settings of a ModelServer. Raises: pydantic.ValidationError."""
    settings = ServedSettings(**_merged(args, user_config))
    base = settings.base_model
    if (path := settings.model_paths.get(base.id)) is None:
        return settings
    return settings.model_copy(update={"base_model": base.model_copy(update={"source": str(path)})})


def _merged(first: Document, second: Document) -> Document:
    """Returns both documents in one. They have no value in common, but may have sections in common."""
    merged = dict(first)
    for name, value in second.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
