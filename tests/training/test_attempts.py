"""A worker carries out the controller's orders on a real model and bucket, with a fake link."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.errors import JobNotFound
from registry.records import Method
from registry.revisions import Revisions
from registry.store import ObjectStore
from tests.support.method_jobs import method_assignment
from tests.support.tiny_jobs import run, tiny_assignment, tiny_resident
from training.types import Assignment, Dismissal, Place, Resumption, Standing, StepProgress
from training.worker import controller_link
from training.worker.adapter import WEIGHTS_FILE
from training.worker.attempts import Attempts, WorkerContext
from training.worker.resident_model import ResidentModel
from training.worker.starting_point import StartingPoints
from training.worker.state import OptimizerState


class Link(controller_link.Link):
    """A `ControllerLink`; every job gives way once a turn, before the pack that is named."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.gives_way_at = 3
        self.fails_at = 0
        self.has_given_up: set[str] = set()
        self._num_looks = 0

    def inform(self, assignment: Assignment, message: str) -> None:
        pass

    def is_cancelled(self) -> bool:
        return False

    def look(self, assignment: Assignment, place: Place) -> Standing:
        self._num_looks += 1
        if self._num_looks == self.fails_at:
            raise RuntimeError("a fault")
        return Standing.GIVES_WAY if self._num_looks == self.gives_way_at else Standing.GOES_ON

    def progress(self, assignment: Assignment, step: StepProgress) -> None:
        pass

    def keep(self, assignment: Assignment, revision: int) -> None:
        self.told.append((assignment.job_id, f"keep {revision}"))

    def borrow_gpu(self, assignment: Assignment) -> None:
        self._tell(assignment, "borrow_gpu")

    def return_gpu(self, assignment: Assignment) -> None:
        self._tell(assignment, "return_gpu")

    def paused(self, assignment: Assignment) -> None:
        self._tell(assignment, "paused")

    def stopped(self, assignment: Assignment) -> None:
        self._tell(assignment, "stopped")

    def complete(self, assignment: Assignment) -> None:
        self._tell(assignment, "complete")

    def fail(self, assignment: Assignment, code: str, message: str) -> None:
        self._tell(assignment, f"fail {code}")

    def _tell(self, assignment: Assignment, what: str) -> None:
        self._num_looks = 0
        if assignment.job_id in self.has_given_up:
            raise JobNotFound("this attempt was given up")
        self.told.append((assignment.job_id, what))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def training_settings() -> dict[str, Any]:
    return {}


@pytest.fixture
def resident(tiny_weights: Path, training_settings: dict[str, Any]) -> ResidentModel:
    return tiny_resident(tiny_weights, max_tokens_per_pack=96, max_paused_in_memory=1, **training_settings)


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def attempts(resident: ResidentModel, store: ObjectStore, link: Link, scratch: Path) -> Iterator[Attempts]:
    revisions = Revisions(store)
    with (
        StartingPoints(revisions, quiet_s=0) as starting_points,
        Attempts(WorkerContext(resident, revisions, starting_points, link)) as attempts,
    ):
        yield attempts


def kept(scratch: Path) -> list[Path]:
    """The directories of the attempts that this worker keeps."""
    return list(scratch.glob("tiger-job-*"))


def job(letter: str, **fields: Any) -> Assignment:
    names = {"job_id": f"job-{letter}", "uid": letter * 32}
    return tiny_assignment(steps=2, dropout=0.1, **fields).model_copy(update=names)


def resumption(assignment: Assignment) -> Resumption:
    return Resumption(job_id=assignment.job_id, attempt=assignment.attempt)


def test_jobs_that_gave_way_are_published_as_if_they_had_not(
    attempts: Attempts, resident: ResidentModel, store: ObjectStore, link: Link, scratch: Path, tmp_path: Path
) -> None:
    """One of the two jobs is kept in memory and one in a file."""
    jobs = [job("a"), job("b")]
    for assignment in jobs:
        attempts.carry_out(assignment)
    assert [name for path in kept(scratch) for name in os.listdir(path)] == ["paused.safetensors"]
    link.gives_way_at = 0
    for assignment in jobs:
        attempts.carry_out(resumption(assignment))
    assert link.told == [
        ("job-a", "paused"),
        ("job-b", "paused"),
        ("job-a", "complete"),
        ("job-b", "complete"),
    ]
    assert kept(scratch) == []
    for assignment in jobs:
        run(resident, tmp_path / assignment.job_id, assignment)
        Revisions(store).fetch(assignment.uid, 1, tmp_path / assignment.uid)
        made, expected = (
            (tmp_path / where / WEIGHTS_FILE).read_bytes() for where in (assignment.uid, assignment.job_id)
        )
        assert made == expected


@pytest.mark.parametrize("training_settings", [{"share_gpu": True}])
def test_a_worker_has_the_shared_gpu_for_its_turns_only(attempts: Attempts, link: Link) -> None:
    assignment = job("a")
    attempts.carry_out(assignment)
    link.gives_way_at = 0
    attempts.carry_out(resumption(assignment))
    turn = ["borrow_gpu", "return_gpu"]
    assert [what for _, what in link.told] == [*turn, "paused", *turn, "complete"]


@pytest.mark.parametrize("training_settings", [{"share_gpu": True}])
def test_a_turn_that_fails_returns_the_shared_gpu(attempts: Attempts, link: Link) -> None:
    link.fails_at = 1
    attempts.carry_out(job("a"))
    assert [what for _, what in link.told] == ["borrow_gpu", "return_gpu", "fail training_failed"]


def test_a_job_that_ended_while_it_waited_is_forgotten(attempts: Attempts, link: Link, scratch: Path) -> None:
    assignment = job("a")
    attempts.carry_out(assignment)
    assert kept(scratch)
    attempts.carry_out(Dismissal(job_id=assignment.job_id))
    assert kept(scratch) == []
    attempts.carry_out(resumption(assignment))
    assert link.told == [("job-a", "paused")], "there is nothing to go on with"


def test_a_new_attempt_takes_the_place_of_a_paused_one(attempts: Attempts, link: Link, scratch: Path) -> None:
    first = job("a")
    attempts.carry_out(first)
    link.gives_way_at = 0
    attempts.carry_out(job("a", attempt=2))
    assert link.told == [("job-a", "paused"), ("job-a", "complete")]
    attempts.carry_out(resumption(first))
    assert kept(scratch) == []


def test_an_attempt_that_was_given_up_does_not_wait(attempts: Attempts, link: Link, scratch: Path) -> None:
    link.has_given_up.add("job-a")
    attempts.carry_out(job("a"))
    assert kept(scratch) == []
    link.gives_way_at = 0
    attempts.carry_out(job("b"))
    assert link.told == [("job-b", "complete")]


def test_a_worker_that_leaves_keeps_nothing(
    resident: ResidentModel, store: ObjectStore, link: Link, scratch: Path
) -> None:
    revisions = Revisions(store)
    with (
        StartingPoints(revisions) as starting_points,
        Attempts(WorkerContext(resident, revisions, starting_points, link)) as attempts,
    ):
        attempts.carry_out(job("a"))
        assert kept(scratch)
    assert kept(scratch) == []


def test_revisions_of_epochs_are_published_and_the_next_job_does_not_take_their_optimizer(
    resident: ResidentModel, attempts: Attempts, store: ObjectStore, link: Link, tmp_path: Path
) -> None:
    link.gives_way_at = 0
    epochs = method_assignment(Method.SUPERVISED, 3)
    request = epochs.request.model_copy(update={"keeps_epochs": True})
    assignment = epochs.model_copy(update={"request": request, "revision": 3})
    attempts.carry_out(assignment)
    assert [what for _, what in link.told] == ["keep 1", "keep 2", "complete"]
    made = Revisions(store).list(assignment.uid)
    assert [(each.revision, each.step, each.job) for each in made] == [
        (3, None, "job"),
        (2, 2, "job"),
        (1, 1, "job"),
    ]
    first = [each.model_dump() for each in made]
    attempts.carry_out(assignment.model_copy(update={"attempt": 2}))
    assert [each.model_dump() for each in Revisions(store).list(assignment.uid)] == first
    with StartingPoints(Revisions(store), quiet_s=0) as points:
        points.remember(OptimizerState("job", {}, Method.SUPERVISED))
        for revision, has_optimizer in ((2, False), (3, True)):
            (directory := tmp_path / str(revision)).mkdir()
            parent = {"parent_revision": revision, "has_parent_adapter": True}
            _, optimizer = points.fetch(assignment.model_copy(update=parent), directory)
            assert (optimizer is not None) == has_optimizer
