"""The report of an optimizer step, from the measures of the objective and of the validation."""

from registry.records import JobRequest, Method
from training.advantages import mean_and_deviation
from training.types import StepMeasures, StepProgress
from training.worker.soundness import check_finite, check_loss

NAMES = {
    "kl": "KL",
    "token_accuracy": "accuracy",
    "reward_margin": "margin of the rewards",
    "valid_loss": "loss of the validation",
    "valid_accuracy": "accuracy of the validation",
}
"""The names of measures in messages, where they differ from those of the fields."""


def progress_of(measures: StepMeasures, request: JobRequest, epoch: float) -> StepProgress:
    """The report of a step. Raises: TrainingDiverged, if a measure is not finite or the loss too large."""
    numbers = {"gradient": measures.grad_norm, **measures.of_method}
    check_finite({NAMES.get(name, name): number for name, number in numbers.items()}, measures.step)
    values = dict(measures.of_method)
    if request.method is Method.GRPO:
        rewards = [response.reward for group in request.groups for response in group.responses]
        values["reward_mean"], values["reward_std"] = mean_and_deviation(rewards)
    else:
        values["epoch"] = epoch
        check_loss(values["loss"], _scale(request), measures.step)
    return StepProgress(
        step=measures.step,
        steps=request.hyperparameters.learning_steps,
        grad_norm=measures.grad_norm,
        learning_rate=measures.learning_rate,
        seconds=measures.seconds,
        **values,
    )


def _scale(request: JobRequest) -> float:
    """The factor of the losses of the request: the largest weight, or beta by its default of 0.1."""
    if request.method is Method.DPO:
        return 10 * request.hyperparameters.beta
    return max(example.weight for example in request.examples)
