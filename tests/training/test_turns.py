"""A job in many turns, between turns of others, makes exactly the same adapter as a job in a single turn."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_jobs import run, run_together, tiny_assignment, tiny_resident
from training.types import Cancelled, Place, Standing, StepProgress
from training.worker import job as training_job
from training.worker.adapter import WEIGHTS_FILE
from training.worker.resident_model import ResidentModel

MICRO_PACKS = 48


class Looks:
    """A link that gives way at the packs that `chance` draws. It remembers where it was asked."""

    def __init__(self, chance: float = 0.0, cancelled_at: int | None = None) -> None:
        self.places: list[Place] = []
        self._chance = chance
        self._cancelled_at = cancelled_at
        self._draws = random.Random(7)

    def __call__(self, place: Place) -> Standing:
        self.places.append(place)
        if len(self.places) == self._cancelled_at:
            return Standing.IS_CANCELLED
        return Standing.GIVES_WAY if self._draws.random() < self._chance else Standing.GOES_ON


class Job:
    """A `Training` that others interrupt."""

    def __init__(
        self, resident: ResidentModel, output: Path, looks: Looks, parent: Path | None = None, **fields: Any
    ) -> None:
        self.steps: list[StepProgress] = []
        self.num_turns = 0
        self.output = output
        self._rank = resident.workers.rank
        self._training = training_job.Training(
            resident, tiny_assignment(**fields), parent, output, self.steps.append, looks
        )

    def take_turn(self) -> bool:
        """Go on with the job for a turn; returns True if it has ended."""
        self.num_turns += 1
        return self._training.go_on() is not None

    def put_aside(self) -> None:
        self._training.put_aside(self.output.with_suffix(f".{self._rank}"))


def in_turns(
    resident: ResidentModel, directory: Path, dropout: float, parent: Path | None
) -> list[StepProgress]:
    """Run two jobs in turn, and others that begin and end in between; returns the first job's steps."""
    long = Job(resident, directory / "long", Looks(0.2), parent, dropout=dropout)
    other = Job(resident, directory / "other", Looks(0.3), steps=2, dropout=0.1)
    has_ended = [False, False]
    while not all(has_ended):
        for number, job in enumerate((long, other)):
            if has_ended[number]:
                continue
            has_ended[number] = job.take_turn()
            if not has_ended[number] and job.num_turns % 2 == 0:
                job.put_aside()
        if long.num_turns == 2:
            run(resident, directory / "short", tiny_assignment(steps=1))
        if long.num_turns == 3:
            with pytest.raises(Cancelled):
                Job(resident, directory / "cancelled", Looks(cancelled_at=3)).take_turn()
    assert long.num_turns > 2
    return long.steps


def weights_of(directory: Path) -> bytes:
    return (directory / WEIGHTS_FILE).read_bytes()


def told(steps: list[StepProgress]) -> list[dict[str, float]]:
    return [step.model_dump(exclude={"seconds"}) for step in steps]


@pytest.mark.parametrize("max_tokens", [MICRO_PACKS, 4096])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("is_continued", [False, True])
def test_a_job_in_turns_makes_the_same_adapter(
    tiny_weights: Path, tmp_path: Path, max_tokens: int, dropout: float, is_continued: bool
) -> None:
    resident = tiny_resident(tiny_weights, max_tokens_per_pack=max_tokens)
    parent = tmp_path / "parent" if is_continued else None
    if parent is not None:
        run(resident, parent, tiny_assignment(steps=2))
    expected = run(resident, tmp_path / "whole", tiny_assignment(dropout=dropout), parent)
    steps = in_turns(resident, tmp_path, dropout, parent)
    assert told(steps) == told(expected)
    assert weights_of(tmp_path / "long") == weights_of(tmp_path / "whole")


def whole_and_in_turns(resident: ResidentModel, directory: Path) -> list[StepProgress]:
    run(resident, directory / "whole", tiny_assignment(dropout=0.3))
    return in_turns(resident, directory, 0.3, None)


@pytest.mark.parametrize("shard", [False, True], ids=["whole models", "sharded"])
def test_workers_give_way_together(tiny_weights: Path, tmp_path: Path, shard: bool) -> None:
    """The workers of this job have different numbers of packs."""
    settings = {"shard_base_model": shard, "max_tokens_per_pack": MICRO_PACKS}
    steps = run_together(2, tiny_weights, tmp_path, whole_and_in_turns, **settings)
    assert len(steps) == 4
    assert weights_of(tmp_path / "long") == weights_of(tmp_path / "whole")


def test_a_job_looks_up_before_each_pack_and_says_how_far_it_is(tiny_weights: Path, tmp_path: Path) -> None:
    looks = Looks()
    job = Job(
        tiny_resident(tiny_weights, max_tokens_per_pack=MICRO_PACKS), tmp_path / "adapter", looks, steps=2
    )
    assert job.take_turn()
    shares = {step: [place.share for place in looks.places if place.step == step] for step in (1, 2)}
    assert {place.steps for place in looks.places} == {2}
    for found in shares.values():
        assert len(found) > 5
        assert found == pytest.approx([number / len(found) for number in range(len(found))])


@pytest.mark.parametrize("number", [1, 2, 9])
def test_cancelling_takes_effect_before_the_next_pack(
    tiny_weights: Path, tmp_path: Path, number: int
) -> None:
    looks = Looks(cancelled_at=number)
    job = Job(tiny_resident(tiny_weights, max_tokens_per_pack=MICRO_PACKS), tmp_path / "adapter", looks)
    with pytest.raises(Cancelled):
        job.take_turn()
    assert len(looks.places) == number
    assert not (tmp_path / "adapter").exists()


def test_the_time_that_others_take_is_not_the_time_of_a_step(tiny_weights: Path, tmp_path: Path) -> None:
    resident = tiny_resident(tiny_weights, max_tokens_per_pack=MICRO_PACKS)
    job = Job(resident, tmp_path / "adapter", Looks(0.3), steps=1)
    while not job.take_turn():
        run(resident, tmp_path / "other", tiny_assignment(steps=1))
    assert job.num_turns > 2
    whole = run(resident, tmp_path / "whole", tiny_assignment(steps=1))
    assert 0 < job.steps[0].seconds < 5 * whole[0].seconds


def test_memory_found_to_be_small_by_another_job_does_not_change_the_packs_of_a_paused_one(
    tiny_weights: Path, tmp_path: Path
) -> None:
    resident = tiny_resident(tiny_weights, max_tokens_per_pack=96)
    run(resident, tmp_path / "whole", tiny_assignment())
    job = Job(resident, tmp_path / "adapter", Looks(0.4))
    while not job.take_turn():
        resident.max_tokens_per_pack = 40
    assert weights_of(tmp_path / "adapter") == weights_of(tmp_path / "whole")
