"""Training of the real SmolLM2, compared with the formulas (tests/support/reference_grpo.py) and contract."""

import gc
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support import reference_grpo as reference
from tests.support.smollm2_jobs import (
    ALPHA,
    BETA,
    EPSILON,
    GROUPS,
    LEARNING_RATE,
    RANK,
    STEPS,
    Job,
    assignment_of,
)
from training.advantages import advantages
from training.conversation import tokenise
from training.settings import TrainingSettings
from training.types import Cancelled, StepProgress
from training.worker import job as training_job
from training.worker.adapter import WEIGHTS_FILE
from training.worker.resident_model import ResidentModel
from training.worker.trainer_arguments import seed_of


@pytest.fixture(scope="module")
def resident(smollm2_weights: Path) -> ResidentModel:
    # Five responses of two prompts make several packs, one of them with both prompts.
    return ResidentModel(
        str(smollm2_weights), TrainingSettings(max_tokens_per_pack=64), max_context_tokens=2048
    )


@pytest.fixture(scope="module")
def pairs(resident: ResidentModel) -> list[reference.Pair]:
    exchanges = [
        tokenise(resident.tokenizer, group.messages, response, 2048)
        for group in GROUPS
        for response in group.responses
    ]
    return [(exchange.prompt_ids, exchange.completion_ids) for exchange in exchanges]


@pytest.fixture(scope="module")
def job(resident: ResidentModel, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(resident, tmp_path_factory.mktemp("job") / "adapter")


@pytest.fixture(scope="module")
def continued(resident: ResidentModel, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    output = tmp_path_factory.mktemp("continued") / "adapter"
    return Job(resident, output, assignment_of("next", steps=2), parent=job.output)


@pytest.fixture(scope="module")
def expected(smollm2_weights: Path, pairs: list[reference.Pair]) -> tuple[Any, reference.Trace]:
    model = reference.fresh_adapter(smollm2_weights, RANK, ALPHA, seed_of("job"))
    return model, _reference_run(model, pairs, STEPS)


def _reference_run(
    model: Any, pairs: list[reference.Pair], steps: int, optimizer: torch.optim.Optimizer | None = None
) -> reference.Trace:
    scores = [score for group in GROUPS for score in advantages([r.reward for r in group.responses])]
    optimizer = optimizer or reference.adam(model, LEARNING_RATE)
    return reference.train(model, optimizer, pairs, scores, steps, BETA, EPSILON)


def _assert_agrees(job: Job, trace: reference.Trace) -> None:
    assert job.column("loss") == pytest.approx(trace.losses, rel=1e-4, abs=1e-6)
    assert job.column("kl") == pytest.approx(trace.kls, rel=1e-3, abs=1e-6)
    assert job.column("clip_ratio") == pytest.approx(trace.clip_ratios)
    assert job.column("grad_norm") == pytest.approx(trace.grad_norms, rel=1e-3)


def test_every_step_is_that_of_the_formulas(job: Job, expected: tuple[Any, reference.Trace]) -> None:
    _assert_agrees(job, expected[1])


def test_the_first_update_goes_where_the_formulas_say(
    resident: ResidentModel, smollm2_weights: Path, pairs: list[reference.Pair], tmp_path: Path
) -> None:
    one_step = Job(resident, tmp_path / "adapter", assignment_of(steps=1))
    model = reference.fresh_adapter(smollm2_weights, RANK, ALPHA, seed_of("job"))
    weights = reference.adapter_weights(model)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    gradient = _reference_run(model, pairs, steps=1).first_gradient
    after = load_file(one_step.output / WEIGHTS_FILE)
    # Adam's first update is the sign of the gradient, which is noise where the gradient is about zero:
    # weighed by its size.
    names = sorted(before)
    ours = torch.cat([((after[n] - before[n]) * gradient[n].abs()).flatten() for n in names])
    theirs = torch.cat([((weights[n] - before[n]) * gradient[n].abs()).flatten() for n in names])
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.9999
    downhill = torch.cat([-gradient[n].flatten() for n in names])
    assert torch.cosine_similarity(ours, downhill, dim=0) > 0.9999


def test_a_continued_adapter_is_held_to_the_base_model(
    continued: Job, job: Job, smollm2_weights: Path, pairs: list[reference.Pair]
) -> None:
    model = reference.loaded_adapter(smollm2_weights, job.output)
    _assert_agrees(continued, _reference_run(model, pairs, steps=2))
    assert continued.column("kl")[0] > 0.01
    assert continued.steps[0].clip_ratio == 0


def test_a_continued_optimizer_is_that_of_the_job_before(
    resident: ResidentModel, job: Job, smollm2_weights: Path, pairs: list[reference.Pair], tmp_path: Path
) -> None:
    assert job.optimizer_state.job == "job"
    going_on = Job(
        resident, tmp_path / "adapter", assignment_of("next", steps=2), job.output, job.optimizer_state.copy()
    )
    model = reference.loaded_adapter(smollm2_weights, job.output)
    optimizer = reference.adam(model, LEARNING_RATE, job.optimizer_state.copy().tensors)
    trace = _reference_run(model, pairs, 2, optimizer)
    _assert_agrees(going_on, trace)
    anew = _reference_run(reference.loaded_adapter(smollm2_weights, job.output), pairs, 2)
    assert abs(trace.kls[1] - anew.kls[1]) > 0.01 * anew.kls[1]
    made = going_on.optimizer_state.tensors
    assert {float(tensor) for name, tensor in made.items() if name.endswith("/step")} == {STEPS + 2.0}


def test_the_clip_is_active_from_the_second_step(job: Job) -> None:
    assert job.steps[0].clip_ratio == 0
    assert job.steps[0].kl == 0
    assert job.column("clip_ratio")[1] > 0


def test_the_result_says_what_was_done(job: Job, pairs: list[reference.Pair]) -> None:
    assert [step.step for step in job.steps] == [1, 2, 3, 4]
    assert set(job.column("steps")) == {STEPS}
    assert set(job.column("learning_rate")) == {LEARNING_RATE}
    assert job.steps[0].reward_mean == pytest.approx(0.2)
    assert job.steps[0].reward_std == pytest.approx(0.83666, rel=1e-4)
    assert job.outcome.trained_tokens == STEPS * sum(len(completion) for _, completion in pairs)
    assert job.outcome.metrics["loss"] == job.steps[-1].loss
    assert 0 < sum(job.column("seconds")) < job.outcome.duration_s


def test_the_adapter_is_two_files_that_say_nothing_of_this_machine(job: Job) -> None:
    assert sorted(os.listdir(job.output)) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((job.output / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "smollm2-135m"
    assert (config["r"], config["lora_alpha"], config["inference_mode"]) == (RANK, ALPHA, True)
    weights = load_file(job.output / WEIGHTS_FILE)
    assert len(weights) == 420
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_a_saved_adapter_is_the_trained_policy_and_prefers_what_was_rewarded(
    job: Job, expected: tuple[Any, reference.Trace], smollm2_weights: Path, pairs: list[reference.Pair]
) -> None:
    model = reference.loaded_adapter(smollm2_weights, job.output)
    with torch.no_grad():
        for pair in pairs:
            saved, trained = (reference.log_probs(m, pair) for m in (model, expected[0]))
            assert torch.allclose(saved, trained, atol=5e-3)
        rewarded, punished = pairs[0], pairs[1]
        gains = []
        for pair in (rewarded, punished):
            after = reference.log_probs(model, pair).sum()
            with model.disable_adapter():
                gains.append(after - reference.log_probs(model, pair).sum())
    assert gains[0] > 0.5
    assert gains[1] < -0.5


@pytest.mark.parametrize("max_tokens", [1, 1024])
def test_the_size_of_packs_changes_nothing(
    resident: ResidentModel, job: Job, max_tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "max_tokens_per_pack", max_tokens)
    other = Job(resident, tmp_path / "adapter", assignment_of(steps=2))
    for name in ("loss", "kl", "clip_ratio", "grad_norm"):
        assert other.column(name) == pytest.approx(job.column(name)[:2], rel=1e-4, abs=1e-6)


def test_checkpointing_changes_nothing(
    resident: ResidentModel, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "checkpoints", True)
    other = Job(resident, tmp_path / "adapter", assignment_of(steps=2))
    assert other.column("loss") == pytest.approx(job.column("loss")[:2], rel=1e-4, abs=1e-6)


def test_a_second_attempt_makes_the_same_adapter(resident: ResidentModel, job: Job, tmp_path: Path) -> None:
    again = Job(resident, tmp_path / "adapter")
    assert (again.output / WEIGHTS_FILE).read_bytes() == (job.output / WEIGHTS_FILE).read_bytes()


@pytest.fixture
def untouched(resident: ResidentModel, pairs: list[reference.Pair]) -> Iterator[None]:
    """Assert that the test leaves the base model as it was, to the bit and to the name."""

    def look() -> tuple[list[torch.Tensor], list[str], list[str]]:
        with torch.no_grad():
            scores = [reference.log_probs(resident.model, pair) for pair in pairs[:2]]
        parameters = [name for name, p in resident.model.named_parameters() if not p.requires_grad]
        attributes = [f"{n}.{key}" for n, module in resident.model.named_modules() for key in vars(module)]
        return scores, parameters, attributes

    scores, parameters, attributes = look()
    yield
    scores_after, parameters_after, attributes_after = look()
    assert all(torch.equal(a, b) for a, b in zip(scores, scores_after, strict=True))
    assert parameters == parameters_after
    assert attributes == attributes_after
    assert not resident.model.training


@pytest.mark.usefixtures("untouched")
def test_a_job_leaves_nothing_behind(
    resident: ResidentModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "cwd")

    def count_tensors() -> int:
        gc.collect()
        return sum(type(thing) in (torch.Tensor, torch.nn.Parameter) for thing in gc.get_objects())

    counts = []
    for number in range(3):
        Job(resident, tmp_path / str(number), assignment_of(f"job-{number}", steps=1))
        counts.append(count_tensors())
    assert counts[1] == counts[2]
    assert os.listdir(tmp_path / "tmp") == os.listdir(tmp_path / "cwd") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("untouched")
def test_a_cancelled_job_stops_before_its_next_step(resident: ResidentModel, tmp_path: Path) -> None:
    steps: list[StepProgress] = []
    with pytest.raises(Cancelled):
        training_job.train(
            resident, assignment_of(), None, tmp_path / "out", steps.append, lambda: len(steps) == 2
        )
    assert len(steps) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("parent", [True, False], ids=["parent does not fit", "progress fails"])
def test_a_failed_job_does_not_harm_the_next(
    resident: ResidentModel, job: Job, tmp_path: Path, parent: bool
) -> None:
    def fail(step: StepProgress) -> None:
        raise RuntimeError("size mismatch")

    assignment = assignment_of().model_copy(update={"rank": 4} if parent else {})
    with pytest.raises(RuntimeError, match="size mismatch"):
        directory = job.output if parent else None
        training_job.train(resident, assignment, directory, tmp_path / "out", fail, lambda: False)
    assert not (tmp_path / "out").exists()


def test_bfloat16_starts_exactly_at_the_base_model(smollm2_weights: Path, tmp_path: Path) -> None:
    half = ResidentModel(str(smollm2_weights), TrainingSettings(dtype="bfloat16"), 2048)
    job = Job(half, tmp_path / "adapter", assignment_of(steps=2))
    assert (job.steps[0].kl, job.steps[0].clip_ratio) == (0, 0)
    assert job.column("kl")[1] > 0
    weights = load_file(job.output / WEIGHTS_FILE)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
