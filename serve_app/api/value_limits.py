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
            raise InvalidRequest(f"`{name}` must be at most {highest:g}", name)


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
            source = "the model's default" if is_default else "the value of the request"
            message = f"`{name}` must be at most {highest[name]:g}; {source} is {value:g}"
            raise InvalidRequest(message, name)
    if model.alpha > highest["alpha"]:
        raise InvalidRequest(
            f"`alpha` must be at most {highest['alpha']:g}; that of the model is {model.alpha:g}", "model"
        )
