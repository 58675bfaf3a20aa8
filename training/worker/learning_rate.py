"""The learning rate of each step of a job: a warm-up, and then one of the schedules of transformers."""

import math

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from registry.records import Hyperparameters, Schedule


def scheduler_of(optimizer: Optimizer, values: Hyperparameters, first_step: int) -> LambdaLR:
    """The scheduler of a job that has made `first_step` steps. The schedule is that of all its steps."""
    name = "constant_with_warmup" if values.schedule is Schedule.CONSTANT else values.schedule.value
    # The rate of the first step of a warm-up is 0, so a job that is nothing else would change no weight.
    num_warmup_steps = min(math.ceil(values.learning_steps * values.warmup_ratio), values.learning_steps - 1)
    # This optimizer is only there because a scheduler needs one.
    unused = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    whole: LambdaLR = get_scheduler(name, unused, num_warmup_steps, values.learning_steps)
    (factor,) = whole.lr_lambdas
    return LambdaLR(optimizer, lambda step: factor(first_step + step))
