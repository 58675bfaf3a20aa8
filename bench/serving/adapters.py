"""Measures adapters compared with the base model, and more adapters than a replica holds."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from bench.serving.levels import Level, beside
from bench.serving.load import SPIN_S, Pass, Prompts, ask, summary
from bench.serving.native import NATIVE_STREAM
from bench.serving.systems import System

NUM_AT_ONCE = 8
NUM_ROUNDS = 6
NUM_REQUESTS = 16
MAX_TOKENS = 32
NUM_ADAPTERS = (1, 4, 8, 16, 64)
NUM_SPREAD = 96
MESSAGES = [{"role": "user", "content": "Say a colour."}]
RESPONSES = [{"content": "Blue.", "reward": 1.0}, {"content": "What?", "reward": 0.0}]


async def compare_adapters(system: System, url: str) -> dict[str, Any]:
    """Measures and ratios to the base model. The base model and the adapters are asked in turns."""
    models = make_models(system, url, "mixed", 4)
    asked: dict[str, Sequence[str]] = {"base": [system.model], "one": models[:1], "four": models}
    prompts = Prompts()
    for names in asked.values():
        await ask(system, prompts.take(8), NUM_AT_ONCE, 4, names)
    level = Level(NUM_AT_ONCE, NUM_REQUESTS, NUM_ROUNDS, MAX_TOKENS)
    results = beside(await models_in_turns(system, prompts, asked, level), "base")
    print("adapters", results, flush=True)
    return results


async def models_in_turns(
    system: System,
    prompts: Prompts,
    asked: Mapping[str, Sequence[str]],
    level: Level,
    settle_s: float = SPIN_S,
) -> dict[str, list[Pass]]:
    """Ask for each entry of `asked` once in each round. The requests go to its models one after another."""
    passes: dict[str, list[Pass]] = {name: [] for name in asked}
    for _ in range(level.num_rounds):
        for name, names in asked.items():
            found = await ask(
                system,
                prompts.take(level.num_requests),
                level.num_at_once,
                level.max_tokens,
                names,
                settle_s,
            )
            passes[name].append(found)
    return passes


async def spread(system: System, url: str) -> dict[str, Any]:
    """Measures by number of adapters. In a hit, the replica had the adapter when the request arrived."""
    models = make_models(system, url, "spread", max(NUM_ADAPTERS))
    choice, prompts = random.Random(0), Prompts()
    results: dict[str, Any] = {}
    for number in NUM_ADAPTERS:
        popularity = [1 / rank for rank in range(1, number + 1)]
        names = choice.choices(models[:number], popularity, k=NUM_SPREAD)
        loading_before = NATIVE_STREAM.num_loading
        found = await ask(system, prompts.take(NUM_SPREAD), NUM_AT_ONCE, MAX_TOKENS, names)
        waited = NATIVE_STREAM.num_loading - loading_before
        results[str(number)] = {
            **summary([found]),
            "requests": NUM_SPREAD,
            "adapters_asked_for": len(set(names)),
            "hits": NUM_SPREAD - waited,
        }
        print(number, "adapters", results[str(number)], flush=True)
    return results


def make_models(system: System, url: str, name: str, number: int) -> list[str]:
    """Make private models that have weights: one is trained, the others are copies of it."""
    with httpx.Client(base_url=url, headers=system.headers, timeout=600, trust_env=False) as http:
        first = _create(http, f"{name} 0", system.model)
        body = {"model": first, "messages": MESSAGES, "responses": RESPONSES, "learning_steps": 1}
        http.post("/v1/train", json=body).raise_for_status()
        return [first, *(_create(http, f"{name} {copy}", first) for copy in range(1, number))]


def _create(http: httpx.Client, name: str, parent: str) -> str:
    body = {"name": name, "description": "", "parent_model": parent}
    created: str = http.post("/v1/models", json=body).raise_for_status().json()["id"]
    return created
