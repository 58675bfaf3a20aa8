"""When memory runs out, packs get smaller, then activations are checkpointed; the result is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from registry.errors import TrainingFailed
from registry.records import Method
from tests.support.method_jobs import method_assignment
from tests.support.tiny_jobs import run, tiny_resident
from training.types import StepProgress
from training.worker import dpo, grpo
from training.worker.log_probs import log_probs
from training.worker.packs import Pack
from training.worker.resident_model import ResidentModel

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
]


class Machine:
    """A machine that has room for packs of `num_tokens` tokens; `num_checkpointed` with checkpointing."""

    def __init__(
        self, resident: ResidentModel, error: Exception, num_tokens: int, num_checkpointed: int
    ) -> None:
        self.resident = resident
        self.error = error
        self.room = {False: num_tokens, True: num_checkpointed}
        self.sizes: list[int] = []
        self.fails_at: int | None = None
        self._log_probs = log_probs

    def __call__(self, model: Any, pack: Pack) -> Tensor:
        self.sizes.append(pack.num_tokens)
        scored = self._log_probs(model, pack)
        if pack.num_tokens > self.room[self.resident.checkpoints] or len(self.sizes) == self.fails_at:
            raise self.error
        return scored


@pytest.fixture(scope="module")
def expected(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> list[StepProgress]:
    return run(tiny_resident(tiny_weights), tmp_path_factory.mktemp("expected") / "adapter")


def assert_same(found: list[StepProgress], expected: list[StepProgress]) -> None:
    for name in ("step", "loss", "kl", "clip_ratio", "grad_norm"):
        columns = [[getattr(step, name) for step in steps] for steps in (found, expected)]
        assert columns[0] == pytest.approx(columns[1], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu"])
def test_packs_shrink_until_they_fit(
    tiny_weights: Path,
    expected: list[StepProgress],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    resident = tiny_resident(tiny_weights)
    machine = Machine(resident, error, num_tokens=70, num_checkpointed=70)
    monkeypatch.setattr(grpo, "log_probs", machine)
    assert_same(run(resident, tmp_path / "adapter"), expected)
    assert machine.sizes[0] > 70
    assert not resident.checkpoints
    assert resident.max_tokens_per_pack <= 70
    machine.sizes.clear()
    assert_same(run(resident, tmp_path / "next"), expected)
    assert max(machine.sizes) <= 70, "the next job knows"


def test_memory_that_runs_out_in_a_later_step_repeats_that_step_alone(
    tiny_weights: Path, expected: list[StepProgress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = tiny_resident(tiny_weights, max_tokens_per_pack=64)
    machine = Machine(resident, OUT_OF_MEMORY[0], num_tokens=4096, num_checkpointed=4096)
    monkeypatch.setattr(grpo, "log_probs", machine)
    run(resident, tmp_path / "adapter")
    passes_a_step = len(machine.sizes) // len(expected)
    assert passes_a_step > 1
    machine.sizes.clear()
    machine.fails_at = 2 * passes_a_step + 2  # the second pack of the third step
    assert_same(run(resident, tmp_path / "adapter"), expected)


def test_a_single_row_that_does_not_fit_is_checkpointed(
    tiny_weights: Path, expected: list[StepProgress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = tiny_resident(tiny_weights)
    monkeypatch.setattr(grpo, "log_probs", Machine(resident, OUT_OF_MEMORY[0], 30, num_checkpointed=100))
    assert_same(run(resident, tmp_path / "adapter"), expected)
    assert resident.checkpoints


def test_what_fits_nowhere_fails_clearly_and_harms_nobody(
    tiny_weights: Path, expected: list[StepProgress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = tiny_resident(tiny_weights)
    with monkeypatch.context() as patched:
        patched.setattr(grpo, "log_probs", Machine(resident, OUT_OF_MEMORY[0], 30, num_checkpointed=30))
        with pytest.raises(TrainingFailed, match=r"[0-9]+ tokens, does not fit in memory"):
            run(resident, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    assert_same(run(resident, tmp_path / "adapter"), expected)


def test_pairs_are_divided_until_one_pair_alone_does_not_fit(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out in a pass that only scores. The steps then find packs that fit."""
    resident = tiny_resident(tiny_weights)
    job = method_assignment(Method.DPO)
    expected = run(resident, tmp_path / "whole", job)
    machine = Machine(resident, OUT_OF_MEMORY[0], num_tokens=70, num_checkpointed=70)
    monkeypatch.setattr(dpo, "log_probs", machine)
    found = run(resident, tmp_path / "adapter", job)
    assert [step.loss for step in found] == pytest.approx([step.loss for step in expected], rel=1e-4)
    assert machine.sizes[0] > 70 and not resident.checkpoints
    machine.room = {False: 30, True: 30}
    with pytest.raises(
        TrainingFailed, match=r"one pair of responses .* [0-9]+ tokens, does not fit in memory"
    ):
        run(resident, tmp_path / "none", job)


def test_other_errors_are_not_taken_for_memory(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = tiny_resident(tiny_weights)
    monkeypatch.setattr(grpo, "log_probs", Machine(resident, RuntimeError("something else"), 1, 1))
    with pytest.raises(RuntimeError, match="something else"):
        run(resident, tmp_path / "adapter")
