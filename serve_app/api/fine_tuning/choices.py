"""Chooses the hyperparameters that a fine-tuning job leaves to the service, and checks all of them.

    n_epochs                   the epochs of the method, more for few examples and fewer for very many
    batch_size                 that of `POST /v1/train`, larger if the steps would be too many
    learning_rate_multiplier   1: the rate of the method

The rule for the epochs is the one that OpenAI has published for its own service.
"""

import math
from typing import NamedTuple

from registry.errors import InvalidRequest
from registry.fine_tuning import FineTuningHyperparameters
from registry.records import Hyperparameters
from serve_app.api.job_request import BATCH_SIZE, DEFAULTS, MAX_STEPS_PER_EPOCH
from serve_app.settings import LimitSettings
from serve_app.wire.fine_tuning import Chosen

FEW_EXAMPLES = 100
MANY_EXAMPLES = 25_000
"""The numbers of examples of all epochs together between which the epochs of the method stay."""
MOST_EPOCHS = 10


class Choice(NamedTuple):
    """The values of a job: as the API shows them, and as the training uses them."""

    shown: FineTuningHyperparameters
    used: Hyperparameters


def choose(given: Chosen, number: int, max_steps: int) -> Choice:
    """Returns the values for a file with `number` examples or pairs."""
    defaults = DEFAULTS[given.method]
    num_epochs = given.num_epochs or _num_epochs(number, defaults.epochs)
    batch_size = min(number, given.batch_size or _batch_size(number, num_epochs, max_steps))
    multiplier = given.learning_rate_multiplier or 1.0
    has_beta = defaults.beta > 0
    beta = given.beta or defaults.beta
    return Choice(
        FineTuningHyperparameters(
            batch_size=batch_size,
            learning_rate_multiplier=multiplier,
            num_epochs=num_epochs,
            beta=beta if has_beta else None,
        ),
        Hyperparameters(
            learning_rate=multiplier * defaults.learning_rate,
            learning_steps=num_epochs * math.ceil(number / batch_size),
            beta=beta,
            epsilon=0.0,
            batch_size=batch_size,
        ),
    )


def _num_epochs(number: int, usual: int) -> int:
    if number * usual < FEW_EXAMPLES:
        return max(usual, min(MOST_EPOCHS, FEW_EXAMPLES // number))
    if number * usual > MANY_EXAMPLES:
        return max(1, MANY_EXAMPLES // number)
    return usual


def _batch_size(number: int, num_epochs: int, max_steps: int) -> int:
    most_steps = min(MAX_STEPS_PER_EPOCH, max(1, max_steps // num_epochs))
    return max(BATCH_SIZE, math.ceil(number / most_steps))


def check_choice(choice: Choice, alpha: float, place: str, limits: LimitSettings) -> None:
    """Checks the values of a job whose model has this alpha. `place` is the field that has them.

    Raises: InvalidRequest.
    """
    shown, used = choice
    if used.learning_rate > limits.max_learning_rate:
        raise _above(f"{place}.learning_rate_multiplier", f"the learning rate is then {used.learning_rate:g}",
                     f"it is at most {limits.max_learning_rate:g}")  # fmt: skip
    if used.learning_steps > limits.max_learning_steps:
        raise _above(
            f"{place}.n_epochs",
            f"{shown.num_epochs} epochs in batches of {shown.batch_size} are {used.learning_steps} steps",
            f"one job makes at most {limits.max_learning_steps}",
        )
    if used.beta > limits.max_beta:
        raise _above(f"{place}.beta", f"it is {used.beta:g}", f"it may be at most {limits.max_beta:g}")
    if alpha > limits.max_alpha:
        raise _above("model", f"its alpha is {alpha:g}", f"trainings take at most {limits.max_alpha:g}")


def check_trained_tokens(num_tokens: int, choice: Choice, place: str, limits: LimitSettings) -> None:
    """Checks the tokens of all epochs, given those of both files. Raises: InvalidRequest."""
    in_all = num_tokens * choice.shown.num_epochs
    if in_all > (most := limits.max_trained_tokens_per_job):
        raise _above(
            f"{place}.n_epochs",
            f"{num_tokens} tokens in {choice.shown.num_epochs} epochs are {in_all}",
            f"one job takes at most {most}",
        )


def _above(param: str, found: str, most: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {found}; {most}", param)
