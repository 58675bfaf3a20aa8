"""Measures what each system adds to the time to first token, when the engine's part is small and steady."""

from typing import Any

import numpy

from bench.serving.load import SPIN_S, Pass, Prompts, ask
from bench.serving.systems import System

QUESTION = "Number {number:06d}. Say hello to {subject}."
NUM_ROUNDS = 24
NUM_REQUESTS = 13
MAX_TOKENS = 2
NUM_RESAMPLED = 2000


async def first_tokens(
    systems: list[System],
    num_rounds: int = NUM_ROUNDS,
    num_requests: int = NUM_REQUESTS,
    settle_s: float = SPIN_S,
) -> dict[str, Any]:
    """Times by system. One short question is asked at a time, of all systems in another order each round.

    `added_ms` is the difference between a system's median and that of the first system. `added_ms_90` is the
    interval of nine of ten such differences, if both sides are drawn again from the measured times.
    """
    prompts = Prompts(QUESTION)
    passes: dict[str, list[Pass]] = {system.name: [] for system in systems}
    draw = numpy.random.default_rng(0)
    for _ in range(num_rounds):
        for index in draw.permutation(len(systems)):
            system = systems[index]
            found = await ask(system, prompts.take(num_requests), 1, MAX_TOKENS, settle_s=settle_s)
            passes[system.name].append(found)
    times = {
        name: 1000 * numpy.array([ttft for each in found for ttft in each.ttfts])
        for name, found in passes.items()
    }
    results = {name: _beside(found, times[systems[0].name]) for name, found in times.items()}
    print("first token", results, flush=True)
    return results


def _beside(times_ms: Any, bare_ms: Any) -> dict[str, Any]:
    draw = numpy.random.default_rng(0)

    def medians(values: Any) -> Any:
        return numpy.median(draw.choice(values, (NUM_RESAMPLED, len(values))), axis=1)

    interval = numpy.percentile(medians(times_ms) - medians(bare_ms), [5, 95])
    return {
        "requests": len(times_ms),
        "p50_ms": round(float(numpy.median(times_ms)), 1),
        "p95_ms": round(float(numpy.percentile(times_ms, 95)), 1),
        "added_ms": round(float(numpy.median(times_ms) - numpy.median(bare_ms)), 1),
        "added_ms_90": [round(float(end), 1) for end in interval],
    }
