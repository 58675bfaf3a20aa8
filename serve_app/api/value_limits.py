"""Checks values of trainings against the highest ones of the settings. Higher ones only spoil an adapter."""

from pydantic import BaseModel

from registry.errors import InvalidRequest
from registry.records import Hyperparameters, ModelRecord
from serve_app.settings import LimitSettings


def highest_values(limits: LimitSettings) -> dict[str, float]:
    return {
        "learning_rate": limits.max_learning_rate,
        "learning_steps": limits.max_learning_steps,
        "beta": limits.max_beta,
        "alpha": limits.max_alpha,
    }


def check_model_values(request: BaseModel, limits: LimitSettings) -> None:
    """Checks the values of a model that is created or changed. A training checks learning_steps.

    Raises: InvalidRequest.
    """
    for name in ("learning_rate", "beta", "alpha"):
        value, highest = getattr(request, name, None), highest_values(limits)[name]
        if value is not None and value > highest:
            raise InvalidRequest(f"{name}: it is at most {highest:g} here", name)


def check_training_values(
    request: BaseModel, used: Hyperparameters, model: ModelRecord, limits: LimitSettings
) -> None:
    """Checks the values of a training, also those that come from the model's defaults.

    The limits may have changed since the model was created. Raises: InvalidRequest.
    """
    highest = highest_values(limits)
    for name in ("learning_rate", "learning_steps", "beta"):
        value = getattr(used, name)
        if value > highest[name]:
            is_default = getattr(request, name) is None
            whose = f"the model's default is {value:g}" if is_default else f"{value:g} was asked for"
            raise InvalidRequest(f"{name}: {whose}; it is at most {highest[name]:g} here", name)
    if model.alpha > highest["alpha"]:
        raise InvalidRequest(
            f"the model's alpha is {model.alpha:g}; it is at most {highest['alpha']:g} here", "model"
        )
