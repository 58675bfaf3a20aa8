"""Measures many adapters compared with the base model, and the first ask of an adapter.

The base model and the adapters are asked in turns, with our native stream. The adapters are published
straight to the bucket. An adapter of the first asks was never asked for before, so the replica downloads it.
"""

import asyncio
from typing import Any

from bench.gpu.aims import adapter_aims, first_ask_aim
from bench.gpu.measures import first_over_warm
from bench.gpu.parts import Record
from bench.gpu.published import publish_models, write_adapter
from bench.gpu.stage import Stage
from bench.gpu.weights import llama_config
from bench.serving.adapters import models_in_turns
from bench.serving.levels import Level, beside
from bench.serving.load import Prompts, ask
from bench.serving.native import NATIVE_STREAM
from bench.serving.systems import System, on_tiger

USER = "adapters"
QUESTION = "Number {number:06d}. Say hello to {subject}."
NUM_ROUNDS = 2
REQUESTS_PER_PLACE = 2


def measure(stage: Stage, record: Record) -> None:
    scale, base = stage.scale, stage.base
    adapter = stage.directory / "adapter"
    write_adapter(adapter, llama_config(scale.llama), base)
    number = max(scale.adapters) + scale.num_first_asks
    models = publish_models(stage.instance.store(), base, adapter, USER, number)
    record(
        "setup",
        {
            "rank": base.rank,
            "max_rank": base.max_rank,
            "max_loras": base.serving.engine.get("max_loras"),
            "max_adapters": base.serving.max_adapters,
            "adapter_mb": round(sum(file.stat().st_size for file in adapter.iterdir()) / 1e6, 1),
        },
    )
    _, native = on_tiger(stage.instance, base.id, USER)
    asyncio.run(_measure(stage, native, models, record))


async def _measure(stage: Stage, system: System, models: list[str], record: Record) -> None:
    scale, prompts = stage.scale, Prompts()
    level = Level(
        scale.adapters_at_once, REQUESTS_PER_PLACE * scale.adapters_at_once, NUM_ROUNDS, scale.max_tokens
    )
    levels: dict[int, Any] = {}
    for number in scale.adapters:
        names = models[:number]
        await ask(system, prompts.take(number), level.num_at_once, 2, names, scale.settle_s)
        loading_before = NATIVE_STREAM.num_loading
        asked = {"base": [system.model], "adapters": names}
        passes = await models_in_turns(system, prompts, asked, level, scale.settle_s)
        levels[number] = beside(passes, "base")
        levels[number]["requests_that_loaded"] = NATIVE_STREAM.num_loading - loading_before
        record(f"{number} adapters", levels[number])
        record("aims", adapter_aims(levels))
        if number == scale.adapters[0]:
            first = await _first_asks(system, models[max(scale.adapters) :], scale.settle_s)
            record("first ask", first)
            record("first ask aim", first_ask_aim(first))


async def _first_asks(system: System, models: list[str], settle_s: float) -> dict[str, Any]:
    prompts = Prompts(QUESTION)
    first: list[float] = []
    warm: list[float] = []
    for model in models:
        for times in (first, warm):
            found = await ask(system, prompts.take(1), 1, 2, [model], settle_s)
            times += found.ttfts
    return first_over_warm(first, warm)
