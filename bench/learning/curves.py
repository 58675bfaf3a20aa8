"""What one run of the loop leaves: a curve, the same for both sides."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.learning.tasks import Task


@dataclass(frozen=True)
class Setup:
    """What both sides share. Sampling is at temperature 1 without top-p or top-k; epsilon clips both ways."""

    num_rounds: int
    group_size: int = 8
    learning_steps: int = 2
    learning_rate: float = 7e-5
    beta: float = 0.04
    epsilon: float = 0.2
    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True)
class HeldOut:
    """Greedy answers to the held-out prompts. `distinct`: the share of answers that are not a repetition."""

    reward: float
    quality: float
    distinct: float
    answers: list[str]


@dataclass(frozen=True)
class Round:
    """One round: samples of the model as it was, a training on them, and the held-out prompts after it.

    `reward` is the mean over the samples. `kl` is in nats per token, against the base model, as measured by
    the round's last optimizer step; None: all rewards were equal and there was nothing to train on.
    `seconds` leaves the held-out prompts out.
    """

    number: int
    reward: float
    kl: float | None
    held_out: HeldOut
    generate_s: float
    train_s: float

    def as_line(self) -> str:
        kl = "   -" if self.kl is None else f"{self.kl:.2f}"
        return (
            f"round {self.number:2}: reward {self.reward:.2f}, KL {kl}; "
            f"held out: reward {self.held_out.reward:.2f}, quality {self.held_out.quality:.2f}; "
            f"{self.generate_s:.1f} + {self.train_s:.1f} s"
        )


@dataclass(frozen=True)
class Curve:
    """`start`: the held-out prompts before any training."""

    start: HeldOut
    rounds: list[Round]


def judge(task: Task, answers: Sequence[str]) -> HeldOut:
    """`answers` are to the held-out prompts, in their order."""
    pairs = list(zip(task.held_out, answers, strict=True))
    return HeldOut(
        reward=statistics.fmean(task.reward(*pair) for pair in pairs),
        quality=statistics.fmean(task.quality(*pair) for pair in pairs),
        distinct=len(set(answers)) / len(answers),
        answers=list(answers),
    )
