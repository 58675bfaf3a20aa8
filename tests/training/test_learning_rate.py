"""The learning rate of each step is that of transformers, also for a job that is resumed."""

import pytest
import torch
from transformers import get_scheduler

from registry.records import Hyperparameters, Schedule
from training.worker.learning_rate import scheduler_of

RATE, STEPS = 2e-4, 10


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=RATE)


def rates(scheduler: torch.optim.lr_scheduler.LambdaLR, num_steps: int) -> list[float]:
    found = []
    for _ in range(num_steps):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.25])
@pytest.mark.parametrize("first_step", [0, 1, 6])
def test_rates_are_those_of_transformers(schedule: Schedule, warmup_ratio: float, first_step: int) -> None:
    values = Hyperparameters(
        learning_rate=RATE,
        learning_steps=STEPS,
        beta=0,
        epsilon=0.2,
        warmup_ratio=warmup_ratio,
        schedule=schedule,
    )
    name = schedule.value if schedule is not Schedule.CONSTANT else "constant_with_warmup"
    num_warmup = 3 if warmup_ratio else 0
    expected = rates(get_scheduler(name, optimizer(), num_warmup, STEPS), STEPS)
    found = rates(scheduler_of(optimizer(), values, first_step), STEPS - first_step)
    assert found == pytest.approx(expected[first_step:])
    if schedule is Schedule.CONSTANT and not warmup_ratio:
        assert set(found) == {RATE}


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize(("num_steps", "warmup_ratio"), [(1, 0.1), (1, 1.0), (4, 1.0)])
def test_last_step_has_a_rate_however_long_the_warm_up_is(
    schedule: Schedule, num_steps: int, warmup_ratio: float
) -> None:
    values = Hyperparameters(
        learning_rate=RATE,
        learning_steps=num_steps,
        beta=0,
        epsilon=0.2,
        warmup_ratio=warmup_ratio,
        schedule=schedule,
    )
    assert rates(scheduler_of(optimizer(), values, 0), num_steps)[-1] == pytest.approx(RATE)
