"""The results of one run of the loop: a curve, in the same form for both sides."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.learning.tasks import Task


@dataclass(frozen=True)
class Setup:
    """The values that both sides share when they learn from rewards.

    Sampling is at temperature 1 without top-p or top-k. Epsilon clips in both directions.
    """

    num_rounds: int
    group_size: int = 8
    learning_steps: int = 2
    learning_rate: float = 7e-5
    beta: float = 0.04
    epsilon: float = 0.2
    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True)
class ShownSetup:
    """The values that both sides share when they learn from what they are shown. The rate is constant."""

    epochs: int = 3
    batch_size: int = 10
    supervised_learning_rate: float = 2e-4
    dpo_learning_rate: float = 1e-4
    beta: float = 0.1
    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True)
class HeldOut:
    """The scores of greedy answers to the held-out prompts. `distinct` is the share of different answers."""

    reward: float
    quality: float
    distinct: float
    answers: list[str]


@dataclass(frozen=True)
class Round:
    """One round: samples of the model, a training on them, and then answers to the held-out prompts.

    `reward` is the mean over the samples. `kl` is the KL to the base model in nats per token, measured by the
    round's last optimizer step. It is None if all rewards were equal, so that there was nothing to train on.
    `generate_s` and `train_s` do not include the held-out prompts.

    A round of a task that shows its answers is an epoch. It has no samples, so `reward` is None. Its `kl` is
    measured on the model's answers to the held-out prompts. `other_kl` is the KL of the base model to the
    trained model, on the base model's answers to other prompts: how much of the rest has changed.
    """

    number: int
    reward: float | None
    kl: float | None
    held_out: HeldOut
    generate_s: float
    train_s: float
    other_kl: float | None = None

    def as_line(self) -> str:
        reward, kl = ("   -" if each is None else f"{each:.2f}" for each in (self.reward, self.kl))
        return (
            f"round {self.number:2}: reward {reward}, KL {kl}; "
            f"held out: reward {self.held_out.reward:.2f}, quality {self.held_out.quality:.2f}; "
            f"{self.generate_s:.1f} + {self.train_s:.1f} s"
        )


@dataclass(frozen=True)
class Curve:
    """One run. `start` has the scores on the held-out prompts before any training.

    `date` is the day of the run. Runs of 2026-11-23 and before have none.
    """

    start: HeldOut
    rounds: list[Round]
    date: str | None = field(default_factory=lambda: datetime.now(UTC).date().isoformat())


def judge(task: Task, answers: Sequence[str]) -> HeldOut:
    """Score the answers to the held-out prompts, which are in the order of the prompts."""
    pairs = list(zip(task.held_out, answers, strict=True))
    return HeldOut(
        reward=statistics.fmean(task.reward(*pair) for pair in pairs),
        quality=statistics.fmean(task.quality(*pair) for pair in pairs),
        distinct=len(set(answers)) / len(answers),
        answers=list(answers),
    )
