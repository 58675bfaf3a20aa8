"""Supervised and DPO jobs that stop anywhere, or that several workers share, make the same adapter."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from registry.records import Method, Schedule
from tests.support.method_jobs import METHODS, method_assignment, validated
from tests.support.tiny_jobs import MemoryStates, run, run_together, tiny_assignment, tiny_resident
from training.types import Assignment, Place, Standing, StepProgress
from training.worker import job as training_job
from training.worker.adapter import WEIGHTS_FILE
from training.worker.resident_model import ResidentModel
from training.worker.state import TrainingState

MICRO_PACKS = 48
STEPS = 5


def job_of(method: Method, attempt: int = 1) -> Assignment:
    """A job with every kind of state: dropout, a schedule, and batches of which the last is smaller."""
    return method_assignment(
        method,
        STEPS,
        dropout=0.3,
        attempt=attempt,
        batch_size=2,
        warmup_ratio=0.4,
        schedule=Schedule.LINEAR,
    )


def told(steps: list[StepProgress]) -> list[dict[str, float]]:
    return [{name: value for name, value in step.shown().items() if name != "seconds"} for step in steps]


def weights_of(directory: Path) -> bytes:
    return (directory / WEIGHTS_FILE).read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_job_makes_the_same_adapter(tiny_weights: Path, tmp_path: Path, method: Method) -> None:
    resident = tiny_resident(tiny_weights)
    parent = tmp_path / "parent"
    run(resident, parent, tiny_assignment(steps=1))
    whole = MemoryStates()
    steps = run(resident, tmp_path / "whole", job_of(method), parent, whole)
    assert [state.step for state in whole.kept] == [1, 2, 3, 4]
    path = tmp_path / "state.safetensors"
    for state in whole.kept:
        state.save(path)
        found = MemoryStates(TrainingState.load(path))
        resumed = run(resident, tmp_path / f"from-{state.step}", job_of(method, attempt=2), parent, found)
        assert told(resumed) == told(steps[state.step :])
        assert weights_of(tmp_path / f"from-{state.step}") == weights_of(tmp_path / "whole")


def give_way(resident: ResidentModel, output: Path, method: Method) -> list[StepProgress]:
    """Run a job that gives way at about every third pack, to a job of GRPO and to a file."""
    draws, steps, num_turns = random.Random(7), list[StepProgress](), 0

    def look(place: Place) -> Standing:
        return Standing.GIVES_WAY if draws.random() < 0.3 else Standing.GOES_ON

    training = training_job.Training(resident, job_of(method), None, output, steps.append, look)
    while training.go_on() is None:
        num_turns += 1
        if num_turns % 2:
            training.put_aside(output.with_suffix(f".{resident.workers.rank}"))
        if num_turns == 2:
            run(resident, output.with_suffix(".other"), tiny_assignment(steps=1))
    assert num_turns > 2
    return steps


@pytest.mark.parametrize("method", METHODS)
def test_a_job_in_turns_makes_the_same_adapter(tiny_weights: Path, tmp_path: Path, method: Method) -> None:
    resident = tiny_resident(tiny_weights, max_tokens_per_pack=MICRO_PACKS)
    expected = run(resident, tmp_path / "whole", job_of(method))
    assert told(give_way(resident, tmp_path / "turns", method)) == told(expected)
    assert weights_of(tmp_path / "turns") == weights_of(tmp_path / "whole")


def both_methods(resident: ResidentModel, output: Path) -> list[StepProgress]:
    """Jobs without dropout, which draws other numbers on each worker. One row or pair is in some batches.

    An epoch ends after two steps of three, and each end has measures of validation rows.

    Then jobs in turns, which the workers leave and take up together.
    """
    steps = []
    for method in METHODS:
        assignment = validated(method, 3, batch_size=3)
        steps += run(resident, output / method.value, assignment)
        if resident.workers.size > 1:
            run(resident, output / f"whole-{method.value}", job_of(method))
            give_way(resident, output / f"turns-{method.value}", method)
    return steps


@pytest.mark.parametrize("shard", [False, True], ids=["whole models", "sharded"])
def test_two_workers_make_the_update_of_one(tiny_weights: Path, tmp_path: Path, shard: bool) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    settings: dict[str, Any] = {"max_tokens_per_pack": MICRO_PACKS}
    expected = both_methods(tiny_resident(tiny_weights, **settings), tmp_path / "one")
    found = run_together(2, tiny_weights, tmp_path / "two", both_methods, shard_base_model=shard, **settings)
    for theirs, ours in zip(found, told(expected), strict=True):
        assert ("valid_loss" in ours) == (ours["step"] > 1)
        if ours["step"] == 1:
            ours.pop("reward_accuracy", None)  # the rewards of the first step are rounding errors
        assert {name: theirs[name] for name in ours} == pytest.approx(ours, rel=1e-3, abs=1e-4)
    for method in METHODS:
        one, two = (load_file(tmp_path / where / method.value / WEIGHTS_FILE) for where in ("one", "two"))
        assert all(torch.allclose(one[name], two[name], atol=1e-3) for name in one)
        in_turns, whole = (
            weights_of(tmp_path / "two" / f"{kind}-{method.value}") for kind in ("turns", "whole")
        )
        assert in_turns == whole
