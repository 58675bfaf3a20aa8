"""Several workers make the same update as one worker, with whole models and with a sharded model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from registry.records import RewardedResponse
from tests.support.tiny_jobs import GROUPS, REWARDS, run, run_together, tiny_assignment, tiny_resident
from training.types import Cancelled, StepProgress
from training.worker import job as training_job
from training.worker.adapter import WEIGHTS_FILE
from training.worker.resident_model import ResidentModel

COLUMNS = ("loss", "kl", "clip_ratio", "grad_norm", "reward_mean")


def two_jobs(resident: ResidentModel, output: Path) -> list[StepProgress]:
    """Run a job with a fresh adapter, and then a job that continues it."""
    first = run(resident, output / "first")
    resident.workers.run_on_all(lambda: None)  # the file is there for all
    return first + run(resident, output / "second", tiny_assignment(), parent=output / "first")


def two_that_end_early_and_one_more(resident: ResidentModel, output: Path) -> list[StepProgress]:
    """An error and a cancellation end a job on every worker. The next job runs."""
    with pytest.raises(RuntimeError, match="size mismatch"):
        run(resident, output / "first", tiny_assignment(), parent=_misfit(resident, output))
    heard: list[StepProgress] = []
    with pytest.raises(Cancelled):
        training_job.train(
            resident, tiny_assignment(), None, output / "none", heard.append, lambda: len(heard) == 2
        )
    return run(resident, output / "second", tiny_assignment(steps=1))


def one_row_left(resident: ResidentModel, output: Path) -> list[StepProgress]:
    """Two of three responses were cut before their first token, so one worker has no row.

    A second job continues the first, so its scores under the base model need passes of their own.
    """
    contents = (("blue,like_the_sea", 1.0, True), ("", 0.0, False), ("", -0.5, False))
    responses = tuple(RewardedResponse(content=c, reward=r, ends_turn=e) for c, r, e in contents)
    groups = (GROUPS[0].model_copy(update={"responses": responses}),)
    assignment = tiny_assignment(steps=2)
    request = assignment.request.model_copy(update={"groups": groups})
    assignment = assignment.model_copy(update={"request": request})
    steps: list[StepProgress] = []
    outcome, _ = training_job.train(resident, assignment, None, output / "row", steps.append, lambda: False)
    assert (outcome.metrics["cut_responses"], outcome.metrics["empty_responses"]) == (2, 2)
    resident.workers.run_on_all(lambda: None)  # the file is there for all
    return steps + run(resident, output / "next", assignment, parent=output / "row")


def _misfit(resident: ResidentModel, output: Path) -> Path:
    run(resident, output / "misfit", tiny_assignment(steps=1).model_copy(update={"rank": 2}))
    resident.workers.run_on_all(lambda: None)
    return output / "misfit"


@pytest.mark.parametrize("shard", [False, True], ids=["whole models", "sharded"])
@pytest.mark.parametrize("max_tokens", [48, 4096])
def test_two_workers_make_the_update_of_one(
    tiny_weights: Path, tmp_path: Path, shard: bool, max_tokens: int
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    expected = two_jobs(tiny_resident(tiny_weights, max_tokens_per_pack=max_tokens), tmp_path / "one")
    found = run_together(
        2, tiny_weights, tmp_path / "two", two_jobs, shard_base_model=shard, max_tokens_per_pack=max_tokens
    )
    for name in COLUMNS:
        assert [step[name] for step in found] == pytest.approx(
            [getattr(step, name) for step in expected], rel=1e-3, abs=1e-5
        )
    for adapter in ("first", "second"):
        one, two = (load_file(tmp_path / where / adapter / WEIGHTS_FILE) for where in ("one", "two"))
        assert one.keys() == two.keys()
        assert all(torch.allclose(one[name], two[name], atol=1e-3) for name in one)


@pytest.mark.parametrize("shard", [False, True], ids=["whole models", "sharded"])
def test_two_workers_learn_as_one_of_what_was_cut(tiny_weights: Path, tmp_path: Path, shard: bool) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    expected = one_row_left(tiny_resident(tiny_weights), tmp_path / "one")
    found = run_together(2, tiny_weights, tmp_path / "two", one_row_left, shard_base_model=shard)
    assert len(expected) == 4 and expected[0].grad_norm > 0
    for name in COLUMNS:
        assert [step[name] for step in found] == pytest.approx(
            [getattr(step, name) for step in expected], rel=1e-3, abs=1e-5
        )


def test_three_workers_share_fewer_rows_than_packs(tiny_weights: Path, tmp_path: Path) -> None:
    assert len(REWARDS) == 5
    (tmp_path / "many").mkdir()
    found = run_together(3, tiny_weights, tmp_path / "many", two_jobs, shard_base_model=True)
    (tmp_path / "one").mkdir()
    expected = two_jobs(tiny_resident(tiny_weights), tmp_path / "one")
    assert [step["loss"] for step in found] == pytest.approx([s.loss for s in expected], rel=1e-3, abs=1e-5)


def test_what_ends_a_job_ends_it_on_every_worker(tiny_weights: Path, tmp_path: Path) -> None:
    found = run_together(2, tiny_weights, tmp_path, two_that_end_early_and_one_more)
    assert len(found) == 1
