"""What a job goes on from: the current revision, and the optimizer that made it."""

from pathlib import Path

import pytest
import torch

from registry.revisions import Revisions
from registry.store import ObjectStore
from tests.support.tiny_jobs import tiny_assignment
from training.parent import fetch_parent, keep_optimizer
from training.state import Moments
from training.types import Assignment

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


def optimizer(directory: Path, job: str = "first") -> Path:
    path = directory / f"{job}.safetensors"
    Moments(job, {"0/step": torch.tensor(2.0), "0/exp_avg": torch.ones(3, 2)}).save(path)
    return path


@pytest.fixture
def revisions(store: ObjectStore, tmp_path: Path) -> Revisions:
    """With the revision of the first job."""
    revisions = Revisions(store)
    publish(revisions, MADE, tmp_path / "adapter")
    return revisions


def test_a_job_goes_on_with_adapter_and_optimizer(revisions: Revisions, tmp_path: Path) -> None:
    keep_optimizer(revisions, MADE, optimizer(tmp_path))
    parent, moments = fetch_parent(revisions, NEXT, tmp_path)
    assert parent is not None and (parent / "adapter_model.safetensors").read_bytes() == b"weights"
    assert moments is not None and moments.job == "first"
    assert torch.equal(moments.tensors["0/exp_avg"], torch.ones(3, 2))


def test_a_fresh_adapter_has_no_parent(revisions: Revisions, tmp_path: Path) -> None:
    assert fetch_parent(revisions, MADE, tmp_path) == (None, None)


@pytest.mark.parametrize("left", ["nothing", "of another job", "unreadable"])
def test_without_the_parents_own_optimizer_a_new_one_begins(
    revisions: Revisions, tmp_path: Path, left: str
) -> None:
    path = optimizer(tmp_path, "given-up")
    if left == "unreadable":
        path.write_bytes(b"not safetensors")
    if left != "nothing":
        keep_optimizer(revisions, MADE, path)
    parent, moments = fetch_parent(revisions, NEXT, tmp_path)
    assert parent is not None and moments is None


def test_only_the_latest_optimizer_is_kept(revisions: Revisions, store: ObjectStore, tmp_path: Path) -> None:
    keep_optimizer(revisions, MADE, optimizer(tmp_path))
    publish(revisions, NEXT, tmp_path / "adapter")
    keep_optimizer(revisions, NEXT, optimizer(tmp_path, "next"))
    kept = [key for key in store.list(f"models/{MADE.uid}/") if "optimizer" in key]
    assert kept == [f"models/{MADE.uid}/revisions/000002/optimizer.safetensors"]


def test_publishing_again_spares_the_optimizer(revisions: Revisions, tmp_path: Path) -> None:
    keep_optimizer(revisions, MADE, optimizer(tmp_path))
    publish(revisions, MADE, tmp_path / "adapter")
    assert fetch_parent(revisions, NEXT, tmp_path)[1] is not None


def test_a_deleted_model_leaves_no_optimizer(
    revisions: Revisions, store: ObjectStore, tmp_path: Path
) -> None:
    revisions.delete_model(MADE.uid)
    keep_optimizer(revisions, MADE, optimizer(tmp_path))
    assert store.list(f"models/{MADE.uid}/") == []
