"""Builds the settings of a deployment from what Serve gives to it: the `args` and the `user_config`.

    args (at the start) + user_config (also later, by `reconfigure`)  ->  settings  <-  TIGER_* of this node

`serve_config` decides which of the two has a setting. TIGER_* variables of the node win over both.
"""

from pathlib import Path
from typing import Any

from registry.settings import StorageSettings
from serve_app.serving_settings import ServedModelSettings
from serve_app.settings import LayeredSettings, LimitSettings, Settings, UsageSettings, build_settings

Document = dict[str, Any]
"""A part of a settings file, as JSON values."""


class ServedSettings(LayeredSettings):
    """The settings of the replicas of one base model."""

    storage: StorageSettings = StorageSettings()
    limits: LimitSettings = LimitSettings()
    usage: UsageSettings = UsageSettings()
    weights_directory: Path = Settings.model_fields["weights_directory"].default
    model_paths: dict[str, Path] = {}
    base_model: ServedModelSettings

    @property
    def weights(self) -> str:
        """The repository id or the directory that vLLM loads."""
        path = self.model_paths.get(self.base_model.id)
        return str(path) if path else self.base_model.weights_path(self.weights_directory.expanduser())


def core_settings(args: Document, user_config: Document) -> Settings:
    """Returns the settings of the Ingress, the Catalog and the Trainer. Raises: pydantic.ValidationError."""
    return build_settings(_merged(args, user_config))


def served_settings(args: Document, user_config: Document) -> ServedSettings:
    """Returns the settings of a ModelServer. Raises: pydantic.ValidationError."""
    return ServedSettings(**_merged(args, user_config))


def _merged(first: Document, second: Document) -> Document:
    """Returns both documents in one. They have no value in common, but may have sections in common."""
    merged = dict(first)
    for name, value in second.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
