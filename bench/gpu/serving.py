"""Measures our two APIs beside bare vLLM on the same GPU, in turns, with the same engine arguments.

Both engines are up at the same time, so that both sides have the same GPU at the same clock. Bare vLLM is
ended at the end of this part, because a training needs its memory.
"""

import asyncio
from typing import Any

from bench.gpu.aims import AIM_AT_ONCE, serving_aims
from bench.gpu.parts import Record
from bench.gpu.stage import Stage
from bench.serving.first_token import first_tokens
from bench.serving.levels import BASELINE, Level, beside, in_turns
from bench.serving.load import Prompts, ask
from bench.serving.systems import System, bare_vllm, on_tiger

WARM_TOKENS = 8


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
        record("aims", serving_aims(added, levels.get(AIM_AT_ONCE), BASELINE))
