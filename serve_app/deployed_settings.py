"""Builds the settings of a deployment from what Serve gives to it: the `args` and the `user_config`.

    args (at the start) + user_config (also later, by `reconfigure`)  ->  settings  <-  TIGER_* of this node

`serve_config` decides which of the two has a setting. TIGER_* variables of the node win over both.
"""

import logging
from collections.abc import Callable
from typing import Any, Self, TypeVar

from pydantic import ValidationError, model_validator

from serve_app.serving_settings import ServedModelSettings
from serve_app.settings import Settings, SharedSettings, with_model_paths

logger = logging.getLogger("ray.serve")

S = TypeVar("S", bound=SharedSettings)

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


def new_or_former(
    build: Callable[[Document, Document], S], args: Document, user_config: Document, former: S
) -> S:
    """Returns the new settings, or the former ones if a variable of this node makes the new ones invalid.

    Serve would end a replica whose `reconfigure` fails, and the next one could not start.
    """
    try:
        return build(args, user_config)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        logger.error("the former settings stay, because the new ones are not valid here: %s", problems)
        return former


def _merged(first: Document, second: Document) -> Document:
    """Returns both documents in one. They have no value in common, but may have sections in common."""
    merged = dict(first)
    for name, value in second.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
