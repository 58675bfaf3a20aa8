"""Sends one pass of requests to one system, with vLLM's own load generator, which `vllm bench serve` runs."""

import asyncio
import contextlib
import io
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from vllm.benchmarks.datasets import SampleRequest
from vllm.benchmarks.serve import TaskType, benchmark

from bench.serving.systems import System

SPIN_S = 1.5
"""The time to wait after a pass: vLLM's engine uses a whole core for a second after its last step."""
SUBJECTS = ("a lighthouse", "two rivers", "the first winter", "an old clock", "a lost letter", "the moon")
TASK = (
    "Number {number:06d}. Write a long story about {subject} in simple words. Say who lives there, what they "
    "eat, what they are afraid of, and how the story ends. Do not stop before everything is told, and give "
    "every person a name. Use short sentences, and begin with the weather on the first day."
)


@dataclass(frozen=True)
class Pass:
    """The measures of a pass, times in seconds.

    `cpu_s` is the CPU time of all processes of the system but vLLM's engine, without their use at rest.
    """

    ttfts: list[float]
    itls: list[float]
    num_requests: int
    output_tokens: int
    duration_s: float
    cpu_s: float


class Prompts:
    """Makes prompts. They differ from the first words on, so that no prefix cache helps.

    With TASK a prompt has about 100 tokens.
    """

    def __init__(self, task: str = TASK) -> None:
        self._task = task
        self._numbers = itertools.count(100_000, 37)

    def take(self, number: int) -> list[str]:
        subjects = itertools.cycle(SUBJECTS)
        return [
            self._task.format(number=next(self._numbers), subject=subject)
            for subject in itertools.islice(subjects, number)
        ]


async def ask(
    system: System,
    prompts: Sequence[str],
    num_at_once: int,
    max_tokens: int,
    models: Sequence[str] | None = None,
    settle_s: float = SPIN_S,
) -> Pass:
    """Ask for greedy answers. Each prompt goes to the system's model, or to the one in its place in `models`.

    It waits for `settle_s` before.

    Raises: RuntimeError if a single request fails.
    """
    await asyncio.sleep(settle_s)
    began_at, cpu_before_s = time.perf_counter(), system.processes.cpu_s()
    with contextlib.redirect_stdout(io.StringIO()):
        result = await benchmark(
            task_type=TaskType.GENERATION,
            endpoint_type=system.backend,
            api_url=system.url,
            base_url=system.url,
            model_id=system.model,
            model_name=system.model,
            tokenizer=None,
            input_requests=[SampleRequest(prompt, 0, max_tokens) for prompt in prompts],
            logprobs=None,
            request_rate=float("inf"),
            burstiness=1.0,
            disable_tqdm=True,
            num_warmups=0,
            profile=False,
            selected_percentile_metrics=[],
            selected_percentiles=[50.0],
            ignore_eos=False,
            goodput_config_dict={},
            max_concurrency=num_at_once,
            lora_modules=models,
            lora_assignment="round-robin",
            extra_headers=system.headers,
            extra_body={"temperature": 0},
            ready_check_timeout_sec=0,
        )
    if result["failed"]:
        raise RuntimeError(f"{system.name}: {next(filter(None, result['errors']), 'a request failed')}")
    duration_s = time.perf_counter() - began_at
    return Pass(
        ttfts=result["ttfts"],
        itls=[gap for gaps in result["itls"] for gap in gaps],
        num_requests=len(prompts),
        output_tokens=result["total_output_tokens"],
        duration_s=result["duration"],
        cpu_s=system.processes.cpu_s() - cpu_before_s - system.processes.idle_cpu_share * duration_s,
    )


def summary(passes: Sequence[Pass]) -> dict[str, float]:
    """The measures of several equal passes of one system, taken together."""
    ttfts = [ttft for each in passes for ttft in each.ttfts]
    itls = [itl for each in passes for itl in each.itls]
    return {
        "ttft_p50_ms": _ms(ttfts, 50),
        "ttft_p95_ms": _ms(ttfts, 95),
        "between_tokens_p50_ms": _ms(itls, 50),
        "between_tokens_p95_ms": _ms(itls, 95),
        "output_tokens_per_s": round(
            sum(each.output_tokens for each in passes) / sum(each.duration_s for each in passes), 1
        ),
    }


def cpu_ms_per_request(passes: Sequence[Pass]) -> float:
    """The CPU time per request in ms. The use at rest, which is measured once, is subtracted."""
    num_requests = sum(each.num_requests for each in passes)
    return round(1000 * sum(each.cpu_s for each in passes) / num_requests, 1)


def _ms(times_s: Sequence[float], percentile: float) -> float:
    return round(1000 * float(numpy.percentile(times_s, percentile)), 1)
