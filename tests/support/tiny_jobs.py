"""Jobs on the tiny model, in this process or in several workers of a process group."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from registry.records import Group, Hyperparameters, JobRequest, Message, RewardedResponse
from training.settings import TrainingSettings
from training.types import Assignment, StepProgress
from training.worker import job as training_job
from training.worker.resident_model import ResidentModel
from training.worker.state import TrainingState
from training.worker.workers import Workers

STEPS = 4
ADAM_BETA_1 = 0.9
"""The part of Adam's first moment that stays from one step to the next."""
REWARDS = {"blue,like_the_sea": 1.0, "no": -1.0, "it_is_hard_to_say_which": 0.0, "5": 0.5, "red": 0.2}
GROUPS = tuple(
    Group(
        messages=(Message(role="user", content=question),),
        responses=tuple(RewardedResponse(content=text, reward=reward) for text, reward in REWARDS.items()),
    )
    for question in ("name_a_colour:", "2+2=", "which_is_the_longest_of_all_these_prompts?")
)


def tiny_assignment(steps: int = STEPS, dropout: float = 0.0, attempt: int = 1, **fields: Any) -> Assignment:
    values = Hyperparameters(learning_rate=1e-2, learning_steps=steps, beta=0.04, epsilon=0.2)
    return Assignment(
        job_id="job",
        attempt=attempt,
        user="alice",
        uid="0" * 32,
        base_model="tiny",
        parent_revision=0,
        has_parent_adapter=False,
        revision=1,
        rank=4,
        alpha=8.0,
        dropout=dropout,
        request=JobRequest(groups=GROUPS, hyperparameters=values),
        **fields,
    )


def tiny_resident(weights: Path, workers: Workers | None = None, **settings: Any) -> ResidentModel:
    return ResidentModel(str(weights), TrainingSettings(threads_per_worker=1, **settings), 512, workers)


@dataclass
class MemoryStates:
    """The `state.States` of a job in memory. A state is stored after every step."""

    found: TrainingState | None = None
    kept: list[TrainingState] = field(default_factory=list)

    def load(self) -> TrainingState | None:
        return self.found

    def is_due(self) -> bool:
        return True

    def keep(self, state: TrainingState) -> None:
        self.kept.append(state)


def first_gradient(states: MemoryStates) -> list[Tensor]:
    """The gradient of the first step, from the first moment of Adam after it."""
    optimizer = states.kept[0].optimizer
    num_weights = len({name.partition("/")[0] for name in optimizer})
    return [optimizer[f"{number}/exp_avg"] / (1 - ADAM_BETA_1) for number in range(num_weights)]


def run(
    resident: ResidentModel,
    output: Path,
    assignment: Assignment | None = None,
    parent: Path | None = None,
    states: MemoryStates | None = None,
) -> list[StepProgress]:
    steps: list[StepProgress] = []
    training_job.train(
        resident, assignment or tiny_assignment(), parent, output, steps.append, lambda: False, states
    )
    return steps


def run_together(
    num_workers: int, weights: Path, output: Path, job: Callable[[ResidentModel, Path], Any], **settings: Any
) -> list[dict[str, float]]:
    """Run `job(resident, directory)` in `num_workers` processes at once; returns the steps of the first."""
    arguments = (num_workers, weights, output, job, settings)
    multiprocessing.spawn(_worker, arguments, nprocs=num_workers)
    steps: list[dict[str, float]] = json.loads((output / "steps.json").read_text())
    return steps


def _worker(
    rank: int,
    size: int,
    weights: Path,
    output: Path,
    job: Callable[[ResidentModel, Path], list[StepProgress]],
    settings: dict[str, Any],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{output}/group", rank=rank, world_size=size)
    steps = job(tiny_resident(weights, Workers(), **settings), output)
    if rank == 0:
        (output / "steps.json").write_text(json.dumps([step.model_dump() for step in steps]))
    else:
        assert steps == []
    dist.destroy_process_group()
