"""The metrics that the controller reports of its jobs, to an implementation that notes them."""

import time
from pathlib import Path

import pytest

from registry.records import JobStatus
from registry.revisions import Revisions
from tests.support.queueing import CountingStore, assigned, controller_over, fail_next, submit
from training.controller.controller import TrainingController
from training.types import StepProgress

STEP = StepProgress(
    step=1, steps=5, loss=0.5, kl=0.1, clip_ratio=0, grad_norm=1, reward_mean=0.5, reward_std=0.5,
    learning_rate=1e-5, seconds=0.25,
)  # fmt: skip


class Told:
    """A TrainingMetrics that keeps the numbers that it is told."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.waits: list[float] = []
        self.steps: list[StepProgress] = []
        self.publications: list[float] = []
        self.ends: list[tuple[JobStatus, float, int]] = []

    def queued(self, base_model: str, num_jobs: int) -> None:
        assert base_model == "base"
        self.lengths.append(num_jobs)

    def started(self, base_model: str, wait_s: float) -> None:
        self.waits.append(wait_s)

    def stepped(self, base_model: str, progress: StepProgress) -> None:
        self.steps.append(progress)

    def published(self, base_model: str, publish_s: float) -> None:
        self.publications.append(publish_s)

    def ended(self, base_model: str, outcome: JobStatus, run_s: float, trained_tokens: int) -> None:
        self.ends.append((outcome, run_s, trained_tokens))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
async def controller(store: CountingStore, told: Told) -> TrainingController:
    return controller_over(store, told)


async def train_next(controller: TrainingController, store: CountingStore, directory: Path) -> None:
    """Act as the worker for a job that succeeds."""
    assignment = await assigned(controller)
    await controller.progress(assignment.job_id, assignment.attempt, STEP)
    (directory / "adapter_config.json").write_text("{}")
    (directory / "adapter_model.safetensors").write_bytes(b"weights")
    Revisions(store).publish(
        assignment.uid,
        directory,
        revision=assignment.revision,
        parent_revision=assignment.parent_revision,
        job=assignment.job_id,
        base_model="base",
        metrics={"loss": 0.5, "trained_tokens": 42, "duration_s": 1.5},
    )
    await controller.complete(assignment.job_id, assignment.attempt)
    async for _ in controller.events("alice", assignment.job_id, follow=True):
        pass


async def test_queue_length_is_told_whenever_it_changes(controller: TrainingController, told: Told) -> None:
    assert told.lengths == [0], "the series begins before the first job"
    await submit(controller)
    waiting = await submit(controller)
    await assigned(controller)
    assert told.lengths[-1] == 1
    await controller.cancel("alice", waiting)
    assert told.lengths[-1] == 0
    assert max(told.lengths) == 2


async def test_job_is_told_of_with_its_outcome_once(
    controller: TrainingController, store: CountingStore, told: Told, tmp_path: Path
) -> None:
    waiting = await submit(controller)
    for _ in range(2):
        await controller.cancel("alice", waiting)
    assert told.ends == [(JobStatus.CANCELLED, 0.0, 0)], "it never started"
    await submit(controller)
    await fail_next(controller)
    await submit(controller)
    await train_next(controller, store, tmp_path)
    outcomes = [(outcome, tokens) for outcome, _, tokens in told.ends[1:]]
    assert outcomes == [(JobStatus.FAILED, 0), (JobStatus.SUCCEEDED, 42)]


async def test_time_from_the_last_step_to_the_loaded_revision_is_told_of_trainings_that_succeed(
    controller: TrainingController, store: CountingStore, told: Told, tmp_path: Path
) -> None:
    job_id = await submit(controller)
    attempt = (await assigned(controller)).attempt
    await controller.progress(job_id, attempt, STEP)
    await controller.fail(job_id, attempt, "training_failed", "no")
    assert told.publications == []
    await submit(controller)
    begin_s = time.monotonic()
    await train_next(controller, store, tmp_path)
    (publish_s,) = told.publications
    assert 0 < publish_s < time.monotonic() - begin_s


async def test_wait_is_told_at_the_first_start_only(controller: TrainingController, told: Told) -> None:
    await submit(controller)
    assert told.waits == []
    first, again = await assigned(controller), await assigned(controller)
    assert (first.attempt, again.attempt) == (1, 2)
    assert len(told.waits) == 1 and told.waits[0] >= 0


async def test_every_step_is_told(controller: TrainingController, told: Told) -> None:
    job_id = await submit(controller)
    attempt = (await assigned(controller)).attempt
    for number in (1, 2):
        await controller.progress(job_id, attempt, STEP.model_copy(update={"step": number}))
    assert [step.step for step in told.steps] == [1, 2]
