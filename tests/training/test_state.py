"""A job that continues from its state ends exactly as it would have without the fault."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import Unavailable
from registry.revisions import Revisions
from registry.store import ObjectStore
from tests.support.tiny_jobs import MemoryStates, run, tiny_assignment, tiny_resident
from tests.support.training_world import SOON
from training.worker.adapter import WEIGHTS_FILE
from training.worker.state import TrainingState
from training.worker.stored_states import StoredStates


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("is_continued", [False, True])
def test_a_resumed_job_makes_the_same_adapter(
    tiny_weights: Path, tmp_path: Path, dropout: float, is_continued: bool
) -> None:
    resident = tiny_resident(tiny_weights)
    parent = tmp_path / "parent" if is_continued else None
    if parent is not None:
        run(resident, parent, tiny_assignment(steps=2))
    whole = MemoryStates()
    steps = run(resident, tmp_path / "whole", tiny_assignment(dropout=dropout), parent, whole)
    assert [state.step for state in whole.kept] == [1, 2, 3], "none after the last step"
    path = tmp_path / "state.safetensors"
    for state in whole.kept:
        state.save(path)
        resumed = run(
            tiny_resident(tiny_weights),
            tmp_path / f"from-{state.step}",
            tiny_assignment(dropout=dropout, attempt=2),
            parent,
            MemoryStates(TrainingState.load(path)),
        )
        # All but the seconds.
        told = [step.model_dump(exclude={"seconds"}) for step in resumed]
        assert told == [step.model_dump(exclude={"seconds"}) for step in steps[state.step :]]
        one, two = (load_file(tmp_path / where / WEIGHTS_FILE) for where in ("whole", f"from-{state.step}"))
        assert all(torch.equal(one[name], two[name]) for name in one)


class AwayAtFirst(ObjectStore):
    num_failures = 2

    def download_file(self, key: str, path: Path) -> None:
        if self.num_failures:
            self.num_failures -= 1
            raise Unavailable("storage cannot be reached")
        super().download_file(key, path)


@pytest.fixture
def state(tiny_weights: Path, tmp_path: Path) -> TrainingState:
    states = MemoryStates()
    run(tiny_resident(tiny_weights), tmp_path / "adapter", tiny_assignment(steps=2), states=states)
    return states.kept[0]


def assert_equal(one: TrainingState, two: TrainingState) -> None:
    for field in fields(TrainingState):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[key], b[key]) for key in a)
        else:
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_state_of_an_earlier_release_is_read(state: TrainingState, tmp_path: Path) -> None:
    """Earlier releases had GRPO alone, whose scores had no folder in the file."""
    path = tmp_path / "state.safetensors"
    state.save(path)
    metadata = {"step": str(state.step)}
    named = {name.removeprefix("scores/"): tensor for name, tensor in load_file(path).items()}
    assert {"old", "ref"} <= named.keys()
    save_file(named, path, metadata=metadata)
    assert_equal(TrainingState.load(path), state)


def test_a_state_in_the_bucket_is_found_by_the_next_attempt_until_the_revision_is_published(
    store: ObjectStore, state: TrainingState, tmp_path: Path
) -> None:
    told: list[str] = []
    revisions = Revisions(store)
    first = tiny_assignment()
    with StoredStates(revisions, first, tmp_path, 0, told.append) as states:
        assert states.load() is None
        assert states.is_due()
        states.keep(state)
    second = first.model_copy(update={"attempt": 2})
    with StoredStates(revisions, second, tmp_path, 3600, told.append) as states:
        assert not states.is_due()
        found = states.load()
        assert found is not None
        assert_equal(found, state)
    assert told == ["Keeping the state after step 1", "Going on after step 1"]
    other = second.model_copy(update={"job_id": "other"})
    with StoredStates(revisions, other, tmp_path, 0, told.append) as states:
        assert states.load() is None
    fields: dict[str, Any] = {"parent_revision": 0, "base_model": "tiny", "metrics": {}}
    revisions.publish(first.uid, tmp_path / "adapter", revision=1, job=first.job_id, **fields)
    with StoredStates(revisions, second, tmp_path, 0, told.append) as states:
        assert states.load() is None
    assert not [key for key in store.list("models/") if "state" in key]


def test_a_state_that_nobody_needs_is_deleted_alone(
    store: ObjectStore, state: TrainingState, tmp_path: Path
) -> None:
    told: list[str] = []
    revisions = Revisions(store)
    with StoredStates(revisions, tiny_assignment(), tmp_path, 0, told.append) as states:
        states.keep(state)
    fields: dict[str, Any] = {"parent_revision": 0, "base_model": "tiny", "metrics": {}}
    uid = tiny_assignment().uid
    manifest = revisions.publish(uid, tmp_path / "adapter", revision=2, job="job", **fields)
    revisions.delete_state(uid, 1, "job")
    assert not store.list(f"models/{uid}/revisions/000001")
    assert revisions.manifest(uid, 2) == manifest


def test_storage_that_is_away_does_not_end_a_job_that_goes_on(
    store: ObjectStore, state: TrainingState, tmp_path: Path
) -> None:
    told: list[str] = []
    with StoredStates(Revisions(store), tiny_assignment(), tmp_path, 0, told.append) as states:
        states.keep(state)
    away = AwayAtFirst(store.settings)
    with StoredStates(Revisions(away), tiny_assignment(attempt=2), tmp_path, 0, told.append, SOON) as states:
        found = states.load()
    assert found is not None and away.num_failures == 0
    assert_equal(found, state)


def test_a_state_that_cannot_be_read_costs_its_steps_and_not_the_job(
    store: ObjectStore, tmp_path: Path
) -> None:
    told: list[str] = []
    (tmp_path / "broken").write_bytes(b"not a state")
    assignment = tiny_assignment(attempt=2)
    Revisions(store).save_state(assignment.uid, 1, assignment.job_id, tmp_path / "broken")
    with StoredStates(Revisions(store), assignment, tmp_path, 0, told.append) as states:
        assert states.load() is None
