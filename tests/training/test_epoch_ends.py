"""Revisions of epochs, and validation, on the tiny model."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from registry.errors import TrainingDiverged
from registry.records import Method
from tests.support.method_jobs import LAST_REVISION, METHODS, method_assignment, validated
from tests.support.tiny_jobs import MemoryStates, run, tiny_assignment, tiny_resident
from training.types import Assignment, Cancelled, Place, Standing, StepProgress
from training.worker import job as training_job
from training.worker.adapter import WEIGHTS_FILE
from training.worker.epoch_ends import MadeRevision
from training.worker.resident_model import ResidentModel
from training.worker.state import TrainingState

MICRO_PACKS = 48


@pytest.fixture(scope="module")
def resident(tiny_weights: Path) -> ResidentModel:
    return tiny_resident(tiny_weights, max_tokens_per_pack=MICRO_PACKS)


@pytest.fixture(scope="module")
def parent(resident: ResidentModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("parent") / "adapter"
    run(resident, directory, tiny_assignment(steps=2))
    return directory


def with_fields(assignment: Assignment, revision: int = LAST_REVISION, **fields: Any) -> Assignment:
    request = assignment.request.model_copy(update=fields)
    return assignment.model_copy(update={"request": request, "revision": revision})


class Keeps:
    """The `keep` of a `Training`: the bytes and the metrics of each revision, by its number."""

    def __init__(self) -> None:
        self.weights: dict[int, bytes] = {}
        self.steps: dict[int, int] = {}
        self.metrics: dict[int, dict[str, float]] = {}

    def __call__(self, made: MadeRevision) -> None:
        assert {path.name for path in made.directory.iterdir()} == {"adapter_config.json", WEIGHTS_FILE}
        self.weights[made.revision] = (made.directory / WEIGHTS_FILE).read_bytes()
        self.steps[made.revision] = made.step
        self.metrics[made.revision] = dict(made.metrics)


def go(
    resident: ResidentModel,
    output: Path,
    assignment: Assignment,
    parent: Path | None = None,
    states: MemoryStates | None = None,
    chance: float = 0.0,
    keep: Keeps | None = None,
) -> list[StepProgress]:
    """Run a job, which gives way with this chance before a pack."""
    draws, steps = random.Random(7), list[StepProgress]()

    def look(place: Place) -> Standing:
        return Standing.GIVES_WAY if draws.random() < chance else Standing.GOES_ON

    training = training_job.Training(
        resident, assignment, parent, output, steps.append, look, states, keep=keep or Keeps()
    )
    num_turns = 1
    while training.go_on() is None:
        num_turns += 1
        training.put_aside(output.with_suffix(f".{resident.workers.rank}"))
    assert (num_turns > 2) == (chance > 0)
    return steps


def told(steps: list[StepProgress]) -> list[dict[str, float]]:
    return [{name: value for name, value in step.shown().items() if name != "seconds"} for step in steps]


def weights_of(directory: Path) -> bytes:
    return (directory / WEIGHTS_FILE).read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_s_revision_has_the_weights_after_its_last_step(
    resident: ResidentModel, tmp_path: Path, method: Method
) -> None:
    assignment = method_assignment(method, 7, dropout=0.3, batch_size=2)
    run(resident, tmp_path / "short", method_assignment(method, 3, dropout=0.3, batch_size=2))
    run(resident, tmp_path / "whole", assignment)
    keeps = Keeps()
    steps = go(resident, tmp_path / "kept", with_fields(assignment, keeps_epochs=True), keep=keeps)
    assert keeps.steps == {LAST_REVISION - 2: 3, LAST_REVISION - 1: 6}
    assert keeps.weights[LAST_REVISION - 2] == weights_of(tmp_path / "short")
    assert weights_of(tmp_path / "kept") == weights_of(tmp_path / "whole")
    assert keeps.metrics[LAST_REVISION - 1]["loss"] == steps[5].loss
    first, second = (keeps.metrics[LAST_REVISION - 3 + epoch]["trained_tokens"] for epoch in (1, 2))
    assert second == 2 * first > 0, "each epoch is over all rows"


@pytest.mark.parametrize("method", METHODS)
def test_validation_measures_the_model_as_it_is_after_the_step(
    resident: ResidentModel, parent: Path, tmp_path: Path, method: Method
) -> None:
    """A step over all rows begins with the model that the validation of the step before has measured."""
    steps = go(resident, tmp_path / "adapter", validated(method), parent)
    name = "token_accuracy" if method is Method.SUPERVISED else "reward_accuracy"
    for before, after in pairwise(steps):
        assert before.valid_loss == pytest.approx(after.loss, rel=1e-4)
        assert before.valid_accuracy == pytest.approx(after.shown()[name])
    assert steps[-1].valid_loss is not None and steps[-1].valid_loss < steps[0].loss


@pytest.mark.parametrize("method", METHODS)
def test_validation_comes_at_the_end_of_each_epoch_and_changes_no_bit(
    resident: ResidentModel, tmp_path: Path, method: Method
) -> None:
    values: dict[str, Any] = {"dropout": 0.3, "batch_size": 2}
    expected = run(resident, tmp_path / "without", method_assignment(method, 5, **values))
    assignment = validated(method, 5, **values)
    found = go(resident, tmp_path / "with", assignment)
    assert [step.step for step in found if step.valid_loss is not None] == [3, 5]
    assert [{**each, "valid_loss": None, "valid_accuracy": None} for each in told(found)] == [
        {**each, "valid_loss": None, "valid_accuracy": None} for each in told(expected)
    ]
    assert weights_of(tmp_path / "with") == weights_of(tmp_path / "without")
    in_turns = go(resident, tmp_path / "turns", assignment, chance=0.3)
    assert told(in_turns) == told(found)


def test_resumed_dpo_compares_validation_with_the_same_start(
    resident: ResidentModel, parent: Path, tmp_path: Path
) -> None:
    whole = MemoryStates()
    steps = go(resident, tmp_path / "whole", validated(Method.DPO, 3), parent, whole)
    path = tmp_path / "state.safetensors"
    whole.kept[-1].save(path)
    found = MemoryStates(TrainingState.load(path))
    assert told(go(resident, tmp_path / "resumed", validated(Method.DPO, 3), parent, found)) == told(
        steps[2:]
    )


def test_the_seed_decides_the_order_and_no_seed_leaves_it_as_it_was(
    resident: ResidentModel, tmp_path: Path
) -> None:
    def losses(**fields: Any) -> list[float]:
        assignment = with_fields(method_assignment(Method.SUPERVISED, 5, batch_size=1), **fields)
        return [step.loss for step in go(resident, tmp_path / "adapter", assignment)]

    assert losses(seed=1) == losses(seed=1) != losses(seed=2)
    assert losses(seed=None) == losses() != losses(seed=1)


def test_cancelling_takes_effect_during_validation(resident: ResidentModel, tmp_path: Path) -> None:
    places: list[Place] = []

    def look(place: Place) -> Standing:
        places.append(place)
        return Standing.IS_CANCELLED if place.share == 1 else Standing.GOES_ON

    keeps, steps = Keeps(), list[StepProgress]()
    training = training_job.Training(
        resident, validated(Method.SUPERVISED), None, tmp_path / "adapter", steps.append, look, keep=keeps
    )
    with pytest.raises(Cancelled):
        training.go_on()
    assert (places[-1].step, steps, keeps.steps) == (1, [], {})


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_that_ends_beyond_all_bounds_makes_no_revision(
    resident: ResidentModel, tmp_path: Path, method: Method
) -> None:
    assignment = with_fields(method_assignment(method, 3, learning_rate=1e5), keeps_epochs=True)
    keeps = Keeps()
    with pytest.raises(TrainingDiverged, match=r"diverged at step 1: .*; lower learning_rate"):
        go(resident, tmp_path / "adapter", assignment, keep=keeps)
    assert keeps.steps == {}
    run(resident, tmp_path / "after", tiny_assignment(steps=1))
    assert all(torch.isfinite(each).all() for each in load_file(tmp_path / "after" / WEIGHTS_FILE).values())
