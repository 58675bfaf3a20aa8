"""Measures our two APIs beside bare vLLM on the same GPU, in turns, with the same engine arguments.

Both engines are up at the same time, so that both sides have the same GPU at the same clock. Bare vLLM is
ended at the end of this part, because a training needs its memory.
"""

import asyncio
from typing import Any

from bench.gpu.measures import aim
from bench.gpu.parts import Record
from bench.gpu.stage import Stage
from bench.serving.first_token import first_tokens
from bench.serving.levels import BASELINE, Level, beside, in_turns
from bench.serving.load import Prompts, ask
from bench.serving.systems import System, bare_vllm, on_tiger

WARM_TOKENS = 8
AIM_AT_ONCE = 64
MOST_ADDED_MS = 5.0
LEAST_TOKENS_RATIO = 0.97


def measure(stage: Stage, record: Record) -> None:
    ours = on_tiger(stage.instance, stage.base.id)
    with bare_vllm(stage.base, stage.instance.settings, stage.logs / "vllm.log") as bare:
        asyncio.run(_measure(stage, [bare, *ours], record))


async def _measure(stage: Stage, systems: list[System], record: Record) -> None:
    scale, prompts = stage.scale, Prompts()
    num_warm = max(scale.levels)
    for system in systems:
        await ask(system, prompts.take(num_warm), num_warm, WARM_TOKENS, settle_s=scale.settle_s)
    num_rounds, num_requests = scale.first_token_rounds
    added = await first_tokens(systems, num_rounds, num_requests, scale.settle_s)
    record("first_token", added)
    levels: dict[int, Any] = {}
    for num_at_once, (num_rounds, num_requests) in scale.levels.items():
        level = Level(num_at_once, num_requests, num_rounds, scale.max_tokens)
        levels[num_at_once] = beside(await in_turns(systems, prompts, level, scale.settle_s), BASELINE)
        record(f"{num_at_once} at once", levels[num_at_once])
        record("aims", aims(added, levels.get(AIM_AT_ONCE)))


def aims(added: dict[str, Any], level: dict[str, Any] | None) -> dict[str, Any]:
    """The aims of our two APIs: what they add to a first token, and their tokens a second at 64 requests."""
    found = {}
    for name in (name for name in added if name != BASELINE):
        found[f"{name}: ms added to a first token"] = aim(added[name]["added_ms"], at_most=MOST_ADDED_MS)
        if level is not None:
            found[f"{name}: tokens a second at {AIM_AT_ONCE}"] = aim(
                level[name]["output_tokens_ratio"], at_least=LEAST_TOKENS_RATIO
            )
    return found
