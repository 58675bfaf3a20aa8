"""Measures optimizer steps of our training and of the hand-written loop, in turns on one resident model."""

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.by_hand import train_by_hand
from registry.records import Group, Hyperparameters, JobRequest, Message, RewardedResponse
from training.types import Assignment, StepProgress
from training.worker.job import rows_of, train
from training.worker.resident_model import ResidentModel

RANK = 16
MICRO_BATCH_SIZE = 4


@dataclass(frozen=True)
class Shape:
    """The shape of a job. Lengths are in characters or in words, whichever make a token each."""

    groups: int
    responses: int
    prompt_tokens: int
    completion_tokens: int


def assignment_of(job: JobRequest) -> Assignment:
    return Assignment(
        job_id="bench",
        attempt=1,
        user="bench",
        uid="bench",
        base_model="bench",
        parent_revision=0,
        has_parent_adapter=False,
        revision=1,
        rank=RANK,
        alpha=2.0 * RANK,
        dropout=0.0,
        request=job,
    )


def job_of(shape: Shape, words: list[str], separator: str, steps: int) -> JobRequest:
    """A job of this shape. All prompts differ. Completions have from half to all of `completion_tokens`."""

    def text(length: int, seed: int) -> str:
        return separator.join(words[(seed * 7 + i * 3) % len(words)] for i in range(length))

    groups = []
    for g in range(shape.groups):
        lengths = [
            max(1, shape.completion_tokens * (shape.responses + r) // (2 * shape.responses - 1))
            for r in range(shape.responses)
        ]
        responses = tuple(
            RewardedResponse(content=text(length - 1 or 1, g * 31 + r), reward=float(r % 3))
            for r, length in enumerate(lengths)
        )
        prompt = Message(role="user", content=text(shape.prompt_tokens, g + 5))
        groups.append(Group(messages=(prompt,), responses=responses))
    values = Hyperparameters(learning_rate=1e-5, learning_steps=steps, beta=0.04, epsilon=0.2)
    return JobRequest(groups=tuple(groups), hyperparameters=values)


def compare(resident: ResidentModel, shape: Shape, job: JobRequest) -> dict[str, Any]:
    """Run both sides on the same job. The time of a side is the median of its steps after the first."""
    mine, hand = _or_out_of_memory(resident, job, ours), _or_out_of_memory(resident, job, by_hand)
    num_tokens = tokens_of_step(resident, job)
    for side in (mine, hand):
        if "step_s" in side:
            side["tokens_per_s"] = round(num_tokens / side["step_s"])
    row: dict[str, Any] = {
        "groups": shape.groups,
        "responses": shape.responses,
        "prompt_tokens": shape.prompt_tokens,
        "completion_tokens": shape.completion_tokens,
        "tokens_per_step": num_tokens,
        "gradient_checkpointing": resident.settings.gradient_checkpointing,
        "tiger": mine,
        "by_hand": hand,
    }
    if "step_s" in mine and "step_s" in hand:
        row["ratio"] = round(mine["step_s"] / hand["step_s"], 3)
    print(
        f"{shape.groups:3d} groups of {shape.responses:2d} x {shape.completion_tokens:4d} tokens, prompt "
        f"{shape.prompt_tokens:4d}: tiger {mine.get('step_s')} s a step, by hand {hand.get('step_s')} s, "
        f"ratio {row.get('ratio')}; outside steps {mine.get('outside_steps_s')} s",
        flush=True,
    )
    return row


def tokens_of_step(resident: ResidentModel, job: JobRequest) -> int:
    """The tokens of all responses, each with its prompt, without padding. One device computes all of them."""
    exchanges = [row.exchange for row in rows_of(resident, job)]
    return sum(len(exchange.prompt_ids) + len(exchange.completion_ids) for exchange in exchanges)


def ours(resident: ResidentModel, job: JobRequest) -> dict[str, Any]:
    steps: list[StepProgress] = []
    with tempfile.TemporaryDirectory() as directory:
        outcome, _ = train(
            resident, assignment_of(job), None, Path(directory) / "adapter", steps.append, lambda: False
        )
    return {
        "step_s": round(statistics.median(step.seconds for step in steps[1:]), 4),
        "outside_steps_s": round(outcome.duration_s - sum(step.seconds for step in steps), 2),
        "losses": [step.loss for step in steps],
    }


def by_hand(resident: ResidentModel, job: JobRequest) -> dict[str, Any]:
    steps = train_by_hand(resident, job, RANK, MICRO_BATCH_SIZE)
    return {
        "step_s": round(statistics.median(seconds for _, seconds in steps[1:]), 4),
        "losses": [loss for loss, _ in steps],
    }


def _or_out_of_memory(resident: ResidentModel, job: JobRequest, side: Any) -> dict[str, Any]:
    is_gpu = resident.device.type == "cuda"
    if is_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        found: dict[str, Any] = side(resident, job)
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}
    if is_gpu:
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return found
