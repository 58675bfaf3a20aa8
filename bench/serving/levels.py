"""Measures systems at one number of requests at once, in turns, and compares each with bare vLLM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.serving.load import SPIN_S, Pass, Prompts, ask, summary
from bench.serving.systems import System

BASELINE = "vllm"


@dataclass(frozen=True)
class Level:
    """A number of requests at once, the requests of a round, the rounds, and the longest answer."""

    num_at_once: int
    num_requests: int
    num_rounds: int
    max_tokens: int


async def in_turns(
    systems: list[System], prompts: Prompts, level: Level, settle_s: float = SPIN_S
) -> dict[str, list[Pass]]:
    """Ask every system once in each round. Each round begins with another system."""
    passes: dict[str, list[Pass]] = {system.name: [] for system in systems}
    for number in range(level.num_rounds):
        first = number % len(systems)
        for system in systems[first:] + systems[:first]:
            found = await ask(
                system,
                prompts.take(level.num_requests),
                level.num_at_once,
                level.max_tokens,
                settle_s=settle_s,
            )
            passes[system.name].append(found)
    return passes


def beside(passes: Mapping[str, Sequence[Pass]], baseline: str) -> dict[str, Any]:
    """The summary of each, with its ratios to `baseline`. Without a baseline there are no ratios."""
    level: dict[str, Any] = {name: summary(found) for name, found in passes.items()}
    if (bare := level.get(baseline)) is None:
        return level
    for found in level.values():
        found["ttft_added_ms"] = round(found["ttft_p50_ms"] - bare["ttft_p50_ms"], 1)
        found["ttft_ratio"] = round(found["ttft_p50_ms"] / bare["ttft_p50_ms"], 3)
        found["output_tokens_ratio"] = round(found["output_tokens_per_s"] / bare["output_tokens_per_s"], 3)
    return level
