"""Supervised training and DPO, compared with their formulas and with the contract."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from registry.errors import NoLearningSignal, TrainingDiverged
from registry.records import Method
from tests.support import reference_grpo, reference_methods
from tests.support.method_jobs import BETA, EXAMPLES, METHODS, PAIRS, method_assignment
from tests.support.tiny_jobs import MemoryStates, first_gradient, run, tiny_assignment, tiny_resident
from training.types import Assignment
from training.worker import job as training_job
from training.worker.adapter import WEIGHTS_FILE
from training.worker.batches import Batches
from training.worker.packs import Row
from training.worker.resident_model import ResidentModel
from training.worker.rows import PREFERRED, REJECTED, rows_of_examples, rows_of_pairs
from training.worker.trainer_arguments import seed_of

STEPS = 4


@pytest.fixture(scope="module")
def resident(tiny_weights: Path) -> ResidentModel:
    return tiny_resident(tiny_weights)


@pytest.fixture(scope="module")
def parent(resident: ResidentModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that differs from the base model, so that a job that begins with it does too."""
    directory = tmp_path_factory.mktemp("parent") / "adapter"
    run(resident, directory, tiny_assignment(steps=2))
    return directory


def reference_trace(
    model: Any, resident: ResidentModel, assignment: Assignment, steps: int = STEPS
) -> reference_methods.Trace:
    """The trace of the formulas for the same batches."""
    request = assignment.request
    values = request.hyperparameters
    optimizer = reference_grpo.adam(model, values.learning_rate)
    is_dpo = request.method is Method.DPO
    rows = rows_of_pairs(resident, PAIRS) if is_dpo else rows_of_examples(resident, EXAMPLES)
    batches = Batches(rows, values.batch_size, seed_of(assignment.job_id))
    chosen = [[rows[number] for number in batches.of_step(step)] for step in range(1, steps + 1)]
    make = dpo_losses if is_dpo else supervised_losses
    return reference_methods.descend(model, optimizer, make(model, chosen))


def supervised_losses(model: Any, batches: list[list[Row]]) -> list[Any]:
    def loss_of(batch: list[Row]) -> Any:
        exchanges, weights = [row.exchange for row in batch], [row.advantage for row in batch]
        return lambda: reference_methods.supervised_loss(model, exchanges, weights)

    return [loss_of(batch) for batch in batches]


def dpo_losses(model: Any, batches: list[list[Row]]) -> list[Any]:
    def loss_of(batch: list[Row]) -> Any:
        pairs = []
        for item in sorted({row.item for row in batch}):
            sides = [
                [row.exchange for row in batch if (row.item, row.advantage) == (item, side)]
                for side in (PREFERRED, REJECTED)
            ]
            pairs.append((sides[0], sides[1]))
        starts = reference_methods.start_scores(model, pairs)
        return lambda: reference_methods.dpo_loss(model, pairs, starts, BETA)

    return [loss_of(batch) for batch in batches]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("batch_size", "max_tokens"), [(None, 4096), (2, 1)])
@pytest.mark.parametrize("is_continued", [False, True], ids=["fresh", "continued"])
def test_every_step_is_that_of_the_formulas(
    tiny_weights: Path,
    resident: ResidentModel,
    parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: Method,
    batch_size: int | None,
    max_tokens: int,
    is_continued: bool,
) -> None:
    """The packs of one run hold several rows, those of the other a single row or pair."""
    monkeypatch.setattr(resident, "max_tokens_per_pack", max_tokens)
    assignment = method_assignment(method, STEPS, batch_size=batch_size)
    states = MemoryStates()
    steps = run(resident, tmp_path / "adapter", assignment, parent if is_continued else None, states)
    model = (
        reference_grpo.loaded_adapter(tiny_weights, parent)
        if is_continued
        else reference_grpo.fresh_adapter(tiny_weights, 4, 8, seed_of("job"))
    )
    trace = reference_trace(model, resident, assignment)
    assert [step.loss for step in steps] == pytest.approx(trace.losses, rel=1e-4, abs=1e-5)
    assert [step.grad_norm for step in steps] == pytest.approx(trace.grad_norms, rel=1e-3, abs=1e-5)
    for ours, theirs in zip(first_gradient(states), trace.first_gradient, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)
    weights = reference_grpo.adapter_weights(model)
    made = load_file(tmp_path / "adapter" / WEIGHTS_FILE)
    assert all(torch.allclose(made[name], weights[name], atol=1e-3) for name in made)


@pytest.mark.parametrize(
    ("method", "fields"),
    [(Method.SUPERVISED, {"token_accuracy"}), (Method.DPO, {"reward_accuracy", "reward_margin"})],
)
def test_steps_and_outcome_have_the_numbers_of_their_method(
    resident: ResidentModel, tmp_path: Path, method: Method, fields: set[str]
) -> None:
    steps: list[Any] = []
    assignment = method_assignment(method, 6, batch_size=2)
    outcome, optimizer = training_job.train(
        resident, assignment, None, tmp_path / "adapter", steps.append, lambda: False
    )
    always = {"step", "steps", "epoch", "loss", "grad_norm", "learning_rate", "seconds"}
    assert set(steps[0].shown()) == always | fields
    assert set(outcome.metrics) == (always | fields) - {"step", "steps", "seconds"}
    assert [step.epoch for step in steps] == pytest.approx([0.4, 0.8, 1, 1.4, 1.8, 2])
    rows = rows_of_pairs(resident, PAIRS) if method is Method.DPO else rows_of_examples(resident, EXAMPLES)
    assert outcome.trained_tokens == 2 * sum(row.exchange.num_trained for row in rows)
    assert optimizer.method is method


def test_training_teaches_what_it_was_shown(resident: ResidentModel, tmp_path: Path) -> None:
    supervised = run(resident, tmp_path / "supervised", method_assignment(Method.SUPERVISED, 30))
    assert supervised[-1].loss < 0.3 * supervised[0].loss
    assert supervised[-1].shown()["token_accuracy"] > supervised[0].shown()["token_accuracy"]
    dpo = run(resident, tmp_path / "dpo", method_assignment(Method.DPO, 10))
    assert dpo[0].loss == pytest.approx(math.log(2), rel=1e-4)
    assert dpo[-1].shown()["reward_accuracy"] == 1
    assert dpo[-1].shown()["reward_margin"] > 1


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_starts_where_float32_does(
    tiny_weights: Path, resident: ResidentModel, tmp_path: Path, method: Method
) -> None:
    half = tiny_resident(tiny_weights, dtype="bfloat16")
    found = run(half, tmp_path / "half", method_assignment(method, steps=2))
    expected = run(resident, tmp_path / "whole", method_assignment(method, steps=2))
    assert [step.loss for step in found] == pytest.approx([step.loss for step in expected], rel=0.05)
    assert {weight.dtype for weight in load_file(tmp_path / "half" / WEIGHTS_FILE).values()} == {
        torch.float32
    }


def test_an_example_of_weight_0_has_no_gradient(resident: ResidentModel, tmp_path: Path) -> None:
    assignment = method_assignment(Method.SUPERVISED, len(EXAMPLES), batch_size=1)
    steps = run(resident, tmp_path / "adapter", assignment)
    assert sorted(step.grad_norm for step in steps)[0] == 0
    assert sum(step.grad_norm == 0 for step in steps) == sum(example.weight == 0 for example in EXAMPLES)


def test_nothing_to_learn_is_said(resident: ResidentModel, tmp_path: Path) -> None:
    weightless = method_assignment(
        Method.SUPERVISED, examples=tuple(each.model_copy(update={"weight": 0}) for each in EXAMPLES)
    )
    equal = method_assignment(
        Method.DPO, pairs=tuple(each.model_copy(update={"rejected": each.preferred}) for each in PAIRS)
    )
    for assignment, message in ((weightless, "weight"), (equal, "sides")):
        with pytest.raises(NoLearningSignal, match=message):
            run(resident, tmp_path / "adapter", assignment)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("learning_rate", [1e30, 1e300])
def test_a_training_that_diverges_says_where_and_makes_no_adapter(
    resident: ResidentModel, tmp_path: Path, method: Method, learning_rate: float
) -> None:
    assignment = method_assignment(method, batch_size=2, learning_rate=learning_rate)
    with pytest.raises(TrainingDiverged, match=r"diverged at step [12]: .*; lower learning_rate"):
        run(resident, tmp_path / "adapter", assignment)
    assert not (tmp_path / "adapter").exists()


def test_the_optimizer_of_another_method_is_left_behind(
    resident: ResidentModel, parent: Path, tmp_path: Path
) -> None:
    """Adam counts the steps that its state has seen."""
    (tmp_path / "made").mkdir()

    def steps_seen(method: Method, before: Any) -> tuple[set[float], Any]:
        _, made = training_job.train(
            resident,
            method_assignment(method, steps=1),
            parent,
            tmp_path / "made" / method.value,
            lambda step: None,
            lambda: False,
            parent_optimizer=before,
        )
        return {float(tensor) for name, tensor in made.tensors.items() if name.endswith("/step")}, made

    seen, made = steps_seen(Method.SUPERVISED, None)
    assert seen == {1.0}
    assert steps_seen(Method.SUPERVISED, made.copy())[0] == {2.0}
    assert steps_seen(Method.DPO, made.copy())[0] == {1.0}
