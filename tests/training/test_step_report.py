"""The report of a step refuses numbers of a training that diverges."""

import math

import pytest

from registry.errors import TrainingDiverged
from registry.records import Method
from tests.support.method_jobs import METHODS, method_assignment
from training.types import StepMeasures
from training.worker.step_report import progress_of


def measures(**of_method: float) -> StepMeasures:
    return StepMeasures(step=3, of_method=of_method, grad_norm=1.0, learning_rate=1e-4, seconds=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_loss_far_beyond_that_of_a_guess_ends_the_training(method: Method) -> None:
    request = method_assignment(method, beta=0.1).request
    assert progress_of(measures(loss=99.0), request, 1.0).loss == 99.0
    message = r"^the training diverged at step 3: the loss exceeds its bound \(153.2 > 100\); lower"
    with pytest.raises(TrainingDiverged, match=message):
        progress_of(measures(loss=153.2), request, 1.0)


def test_what_makes_all_losses_larger_is_no_divergence() -> None:
    weighted = method_assignment(Method.SUPERVISED).request
    heavy = weighted.examples[0].model_copy(update={"weight": 1000.0})
    weighted = weighted.model_copy(update={"examples": (*weighted.examples, heavy)})
    for request in (weighted, method_assignment(Method.DPO, beta=2.0).request):
        assert progress_of(measures(loss=150.0), request, 1.0).loss == 150.0


@pytest.mark.parametrize("name", ["loss", "valid_loss", "valid_accuracy"])
def test_number_that_is_not_finite_is_named(name: str) -> None:
    request = method_assignment(Method.SUPERVISED).request
    values = {"loss": 0.5, name: math.nan}
    words = name.replace("valid_loss", "loss of the validation").replace("valid_accuracy", "accuracy of the")
    with pytest.raises(TrainingDiverged, match=rf"at step 3: the {words}.* is not finite \(nan\)"):
        progress_of(measures(**values), request, 1.0)
