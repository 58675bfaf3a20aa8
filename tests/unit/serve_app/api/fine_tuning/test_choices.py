"""The values that the service chooses for a job, and the limits of all values."""

from typing import Any

import pytest

from registry.errors import InvalidRequest
from registry.records import Method
from serve_app.api.fine_tuning.choices import check_choice, check_trained_tokens, choose
from serve_app.settings import LimitSettings
from serve_app.wire.fine_tuning import Chosen

MAX_STEPS = 1000
LIMITS = LimitSettings(max_learning_steps=50, max_learning_rate=0.01, max_beta=1, max_alpha=64)


@pytest.mark.parametrize(
    ("method", "number", "num_epochs", "batch_size", "num_steps"),
    [
        (Method.SUPERVISED, 1, 10, 1, 10),
        (Method.SUPERVISED, 20, 5, 8, 15),
        (Method.SUPERVISED, 99, 3, 8, 39),
        (Method.SUPERVISED, 8333, 3, 33, 759),
        (Method.SUPERVISED, 16_384, 1, 64, 256),
        (Method.DPO, 50, 2, 8, 14),
        (Method.DPO, 1000, 1, 8, 125),
    ],
)
def test_few_examples_have_more_epochs_and_many_have_larger_batches(
    method: Method, number: int, num_epochs: int, batch_size: int, num_steps: int
) -> None:
    shown, used = choose(Chosen(method), number, MAX_STEPS)
    assert (shown.num_epochs, shown.batch_size, used.learning_steps) == (num_epochs, batch_size, num_steps)
    assert used.batch_size == batch_size and shown.learning_rate_multiplier == 1


def test_batches_grow_until_the_epochs_of_a_request_are_possible() -> None:
    shown, used = choose(Chosen(Method.SUPERVISED, num_epochs=10), 1000, 100)
    assert (shown.batch_size, used.learning_steps) == (100, 100)


def test_given_values_hold() -> None:
    given = Chosen(Method.DPO, batch_size=2, learning_rate_multiplier=4, num_epochs=7, beta=0.5)
    shown, used = choose(given, 4, MAX_STEPS)
    assert shown.model_dump() == {
        "batch_size": 2,
        "learning_rate_multiplier": 4,
        "num_epochs": 7,
        "beta": 0.5,
    }
    assert used.learning_rate == pytest.approx(2e-5)
    assert (used.learning_steps, used.beta) == (14, 0.5)
    assert choose(Chosen(Method.SUPERVISED, batch_size=9), 4, MAX_STEPS).shown.batch_size == 4


@pytest.mark.parametrize(
    ("given", "alpha", "param", "message"),
    [
        ({"num_epochs": 51}, 1.0, "at.n_epochs", "51 epochs in batches of 4 are 51 steps; one job makes"),
        ({"learning_rate_multiplier": 1000}, 1.0, "at.learning_rate_multiplier", "the learning rate is"),
        ({}, 65.0, "model", "its alpha is 65; trainings take at most 64"),
    ],
)  # fmt: skip
def test_value_above_its_limit_is_refused_with_its_field(
    given: dict[str, Any], alpha: float, param: str, message: str
) -> None:
    choice = choose(Chosen(Method.SUPERVISED, **given), 4, LIMITS.max_learning_steps)
    with pytest.raises(InvalidRequest) as refused:
        check_choice(choice, alpha, "at", LIMITS)
    assert refused.value.param == param
    assert refused.value.message.startswith(f"{param}: {message}")


def test_beta_and_tokens_have_limits_too() -> None:
    choice = choose(Chosen(Method.DPO, beta=2, num_epochs=3), 4, LIMITS.max_learning_steps)
    with pytest.raises(InvalidRequest, match="beta: it is 2; it may be at most 1"):
        check_choice(choice, 1, "at", LIMITS)
    limits = LIMITS.model_copy(update={"max_trained_tokens_per_job": 300})
    check_trained_tokens(100, choice, "at", limits)
    with pytest.raises(InvalidRequest, match="101 tokens in 3 epochs are 303; one job takes at most 300"):
        check_trained_tokens(101, choice, "at", limits)
