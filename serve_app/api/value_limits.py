"""Checks values of trainings against the highest ones of the settings. Higher ones only spoil an adapter."""

from pydantic import BaseModel

from registry.errors import InvalidRequest
from registry.records import JobRequest, Method, ModelRecord
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
    request: BaseModel, job: JobRequest, model: ModelRecord, limits: LimitSettings
) -> None:
    """Checks the values of a training, also those that are defaults of the model or of the method.

    The limits may have changed since the model was created. Raises: InvalidRequest.
    """
    highest, used = highest_values(limits), job.hyperparameters
    for name in ("learning_rate", "learning_steps", "beta"):
        value = getattr(used, name)
        if value > highest[name]:
            is_given = getattr(request, name) is not None
            if name == "learning_steps" and not is_given and job.method is not Method.GRPO:
                raise _too_many_epochs(job, limits)
            of_whom = "the model" if job.method is Method.GRPO else "the method"
            source = "the value of the request" if is_given else f"the default of {of_whom}"
            message = f"`{name}` must be at most {highest[name]:g}; {source} is {value:g}"
            raise InvalidRequest(message, name)
    if model.alpha > highest["alpha"]:
        raise InvalidRequest(
            f"`alpha` must be at most {highest['alpha']:g}; that of the model is {model.alpha:g}", "model"
        )


def _too_many_epochs(job: JobRequest, limits: LimitSettings) -> InvalidRequest:
    used = job.hyperparameters
    unit = "examples" if job.method is Method.SUPERVISED else "pairs"
    return InvalidRequest(
        f"the epochs in batches of {used.batch_size} {unit} are {used.learning_steps} steps; "
        f"one training makes at most {limits.max_learning_steps}",
        "epochs",
    )
