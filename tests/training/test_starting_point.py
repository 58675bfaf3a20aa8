"""A job starts from the current revision, and from the state of its optimizer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from registry.records import Method
from registry.revisions import Revisions
from registry.store import ObjectStore
from tests.support.tiny_jobs import tiny_assignment
from training.types import Assignment
from training.worker.starting_point import StartingPoints
from training.worker.state import OptimizerState

MADE = tiny_assignment().model_copy(update={"job_id": "first"})
NEXT = MADE.model_copy(
    update={"job_id": "next", "has_parent_adapter": True, "parent_revision": 1, "revision": 2}
)


def publish(revisions: Revisions, assignment: Assignment, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "adapter_config.json").write_text("{}")
    (directory / "adapter_model.safetensors").write_bytes(b"weights")
    revisions.publish(
        assignment.uid,
        directory,
        revision=assignment.revision,
        parent_revision=assignment.parent_revision,
        job=assignment.job_id,
        base_model="tiny",
        metrics={},
    )


def optimizer_state(job: str = "first") -> OptimizerState:
    tensors = {"0/step": torch.tensor(2.0), "0/exp_avg": torch.ones(3, 2)}
    return OptimizerState(job, tensors, Method.DPO)


def keep(revisions: Revisions, assignment: Assignment, job: str | None = None) -> None:
    """Keep the outcome as a run does that ends after this training."""
    with StartingPoints(revisions) as starting_points:
        starting_points.remember(optimizer_state(job or assignment.job_id))
        starting_points.keep(assignment)


@pytest.fixture
def revisions(store: ObjectStore, tmp_path: Path) -> Revisions:
    """A store of revisions that has the revision of the first job."""
    revisions = Revisions(store)
    publish(revisions, MADE, tmp_path / "adapter")
    return revisions


@pytest.fixture
def starting_points(revisions: Revisions) -> Iterator[StartingPoints]:
    """The starting points of a run that has just begun."""
    with StartingPoints(revisions) as starting_points:
        yield starting_points


def test_a_job_goes_on_with_adapter_and_optimizer(
    revisions: Revisions, starting_points: StartingPoints, tmp_path: Path
) -> None:
    keep(revisions, MADE)
    parent, found = starting_points.fetch(NEXT, tmp_path)
    assert parent is not None and (parent / "adapter_model.safetensors").read_bytes() == b"weights"
    assert found is not None and (found.job, found.method) == ("first", Method.DPO)
    assert torch.equal(found.tensors["0/exp_avg"], torch.ones(3, 2))


def test_the_last_optimizer_of_a_run_is_at_hand(
    starting_points: StartingPoints, store: ObjectStore, tmp_path: Path
) -> None:
    """Each training gets a copy, because a cancelled training has changed the state that it was given."""
    starting_points.remember(optimizer_state())
    for _ in range(2):
        found = starting_points.fetch(NEXT, tmp_path)[1]
        assert found is not None and torch.equal(found.tensors["0/exp_avg"], torch.ones(3, 2))
        found.tensors["0/exp_avg"].zero_()
    assert not [key for key in store.list(f"models/{MADE.uid}/") if "optimizer" in key]


def test_a_fresh_adapter_has_no_parent(starting_points: StartingPoints, tmp_path: Path) -> None:
    assert starting_points.fetch(MADE, tmp_path) == (None, None)


@pytest.mark.parametrize("left", ["nothing", "of another job", "unreadable"])
def test_without_the_parents_own_optimizer_a_new_one_begins(
    revisions: Revisions, starting_points: StartingPoints, tmp_path: Path, left: str
) -> None:
    if left == "of another job":
        keep(revisions, MADE, "given-up")
        starting_points.remember(optimizer_state("given-up"))
    if left == "unreadable":
        path = tmp_path / "unreadable"
        path.write_bytes(b"not safetensors")
        revisions.save_optimizer(MADE.uid, MADE.revision, path)
    parent, found = starting_points.fetch(NEXT, tmp_path)
    assert parent is not None and found is None


def test_only_the_latest_optimizer_is_kept(revisions: Revisions, store: ObjectStore, tmp_path: Path) -> None:
    keep(revisions, MADE)
    publish(revisions, NEXT, tmp_path / "adapter")
    keep(revisions, NEXT)
    kept = [key for key in store.list(f"models/{MADE.uid}/") if "optimizer" in key]
    assert kept == [f"models/{MADE.uid}/revisions/000002/optimizer.safetensors"]


def test_publishing_again_spares_the_optimizer(
    revisions: Revisions, starting_points: StartingPoints, tmp_path: Path
) -> None:
    keep(revisions, MADE)
    publish(revisions, MADE, tmp_path / "adapter")
    assert starting_points.fetch(NEXT, tmp_path)[1] is not None


def test_a_deleted_model_leaves_no_optimizer(revisions: Revisions, store: ObjectStore) -> None:
    revisions.delete_model(MADE.uid)
    keep(revisions, MADE)
    assert store.list(f"models/{MADE.uid}/") == []
