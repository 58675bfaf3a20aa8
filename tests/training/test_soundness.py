"""Numbers beyond all bounds end a job with a reason, never with a revision, and harm no other job."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import NoLearningSignal, TrainingDiverged
from registry.records import Group, JobRequest, RewardedResponse
from tests.support.tiny_jobs import GROUPS, run, tiny_assignment, tiny_resident
from training.types import Assignment
from training.worker import job as training_job
from training.worker.adapter import WEIGHTS_FILE


def assignment(
    steps: int = 1, alpha: float = 8.0, groups: tuple[Group, ...] = GROUPS, **values: float
) -> Any:
    usual = tiny_assignment(steps)
    hyperparameters = usual.request.hyperparameters.model_copy(update=values)
    request = JobRequest(groups=groups, hyperparameters=hyperparameters)
    return usual.model_copy(update={"alpha": alpha, "request": request})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("job", "step"),
    [
        (assignment(learning_rate=1e5), 1),
        (assignment(learning_rate=1e30), 1),
        (assignment(learning_rate=1e38), 1),
        (assignment(learning_rate=1e300), 1),
        (assignment(steps=5, learning_rate=1e30), 2),
        (assignment(steps=3, beta=1e300), 2),
        (assignment(steps=3, alpha=1e30), 2),
        (assignment(steps=3, alpha=1e300), 2),
    ],
    ids=["1e5", "1e30", "1e38", "1e300", "1e30 x 5", "beta 1e300", "alpha 1e30", "alpha 1e300"],
)
def test_a_training_that_diverges_makes_no_adapter(
    tiny_weights: Path, tmp_path: Path, job: Assignment, step: int, dtype: str
) -> None:
    resident = tiny_resident(tiny_weights, dtype=dtype)
    run(resident, tmp_path / "before", tiny_assignment(steps=1))
    with pytest.raises(TrainingDiverged, match=r"diverged at step \d: .*; lower learning_rate") as caught:
        run(resident, tmp_path / "adapter", job)
    assert f"step {step}:" in caught.value.message or "step 1:" in caught.value.message
    assert not (tmp_path / "adapter").exists()
    run(resident, tmp_path / "after", tiny_assignment(steps=1))
    before, after = (load_file(tmp_path / name / WEIGHTS_FILE) for name in ("before", "after"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_finite_weights_are_not_enough(tiny_weights: Path, tmp_path: Path) -> None:
    """The parent has finite weights. A step that changes nothing shows that its outputs are not finite."""
    resident = tiny_resident(tiny_weights)
    run(resident, tmp_path / "parent", tiny_assignment(steps=1))
    path = tmp_path / "parent" / WEIGHTS_FILE
    weights = {name: tensor * 1e12 for name, tensor in load_file(path).items()}
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    save_file(weights, path)
    with pytest.raises(TrainingDiverged):
        run(resident, tmp_path / "adapter", assignment(learning_rate=1e-20), parent=tmp_path / "parent")


def test_rewards_of_any_size_teach_the_same(tiny_weights: Path, tmp_path: Path) -> None:
    resident = tiny_resident(tiny_weights)

    def with_rewards(scale: float) -> tuple[Group, ...]:
        responses = tuple(
            RewardedResponse(content=text, reward=sign * scale) for text, sign in (("blue", 1), ("no", -1))
        )
        return (GROUPS[0].model_copy(update={"responses": responses}),)

    steps = [
        run(resident, tmp_path / str(scale), assignment(groups=with_rewards(scale)))[0]
        for scale in (1e6, 1.7e308)
    ]
    assert steps[0].loss == pytest.approx(steps[1].loss, abs=1e-6)
    assert steps[0].grad_norm == pytest.approx(steps[1].grad_norm, rel=1e-4)
    assert steps[1].shown()["reward_std"] < float("inf")


def test_a_response_without_tokens_is_left_out_and_its_reward_counts(
    tiny_weights: Path, tmp_path: Path
) -> None:
    resident = tiny_resident(tiny_weights)
    empty = RewardedResponse(content="", reward=0.0, ends_turn=False)
    full = RewardedResponse(content="blue", reward=1.0)
    group = GROUPS[0].model_copy(update={"responses": (full, empty)})
    rows = training_job.rows_of(resident, assignment(groups=(group,)).request)
    assert [row.advantage for row in rows] == pytest.approx([0.7071], abs=1e-3)
    assert len(run(resident, tmp_path / "adapter", assignment(groups=(group,)))) == 1
    nothing = GROUPS[0].model_copy(update={"responses": (empty, empty.model_copy(update={"reward": 1.0}))})
    average = RewardedResponse(content="blue", reward=0.5)
    equal = GROUPS[0].model_copy(update={"responses": (full, full)})
    for responses in (nothing.responses, (*nothing.responses, average)):
        lost = nothing.model_copy(update={"responses": responses})
        with pytest.raises(NoLearningSignal):
            run(resident, tmp_path / "none", assignment(groups=(lost, equal)))
