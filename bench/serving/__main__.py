"""Measures what a server adds to vLLM: four HTTP APIs of one base model, in one run.

    python -m bench.serving         (make bench-serving)

A request has about 150 tokens, and its greedy answer up to 64. Each number of requests at once is measured in
many short rounds. In a round every system is asked once, and each round begins with another system, so that a
slow minute of a shared machine is the same for all. All systems are up all the time. Their engines have the
same arguments and the same plugins.

The parts are:

    doors           the measures below, for each system
    adapters        our native stream with 8 requests at once: the base model, one adapter, four mixed
    zipf            the same for 1 to 64 adapters, which are asked for with Zipf's popularity (exponent 1)

A part that is left out with `--only` stays in the file as it was. The measures are:

    ttft            time to first token
    between_tokens  time between two chunks of one stream
    output_tokens   tokens per second, over all requests of a level
    cpu             CPU time per request of all processes but vLLM's engine, without their use at rest;
                    a difference of a few ms means nothing
    first_token     what each system adds to the time to first token, measured apart: short questions, one at
                    a time
    ratio           ratio to bare vLLM at the same level; `ttft_added_ms` is the difference of the medians
"""

import argparse
import asyncio
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.machine import describe
from bench.serving.adapters import compare_adapters, spread
from bench.serving.first_token import first_tokens
from bench.serving.levels import BASELINE, Level, beside, in_turns
from bench.serving.load import Pass, Prompts, ask, cpu_ms_per_request
from bench.serving.plot import plot
from bench.serving.systems import System, bare_vllm, configuration, instance_beside_ray_llm, on_ray
from serve_app.instance.weights import prepare_weights
from serve_app.model_server.vllm_patches.plugins import PLUGINS, require_plugins
from serve_app.settings import load_settings

PARTS = ("doors", "adapters", "zipf")
MAX_TOKENS = 64
ROUNDS = {1: (8, 3), 4: (4, 12), 16: (4, 32)}
"""The number of rounds and the requests in each round, by the number of requests at once."""


def main() -> None:
    options = _options()
    machine = describe()
    require_plugins()
    report: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="tiger-bench-", ignore_cleanup_errors=True)
        directory = Path(stack.enter_context(scratch))
        config = configuration(directory)
        settings = load_settings(config)
        base = settings.base_model(settings.default_model)
        prepare_weights(base, settings.weights_directory.expanduser())
        instance = stack.enter_context(instance_beside_ray_llm(config))
        bare = stack.enter_context(bare_vllm(base, settings, directory / "vllm.log"))
        systems = [bare, *on_ray(instance, base.id)]
        native = systems[-1]
        if "doors" in options.only:
            setup = {"max_tokens": MAX_TOKENS, "rounds": ROUNDS, "plugins_of_every_engine": PLUGINS}
            report |= {"machine": machine, "setup": setup}
            report |= asyncio.run(measure(systems, options.at_once))
        if "adapters" in options.only:
            report["adapters"] = asyncio.run(compare_adapters(native, instance.url))
            report["adapters"]["machine"] = machine
        if "zipf" in options.only:
            report["zipf"] = asyncio.run(spread(native, instance.url))
            report["zipf"]["machine"] = machine
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    plot(report, options.output.with_suffix(".png"))
    print(table(report))
    print(f"written to {options.output} and {options.output.with_suffix('.png')}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--at-once", type=int, nargs="+", choices=ROUNDS, default=list(ROUNDS))
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help="measure only these parts"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("bench/results/serving.json"),
        help="report; a .png goes beside it",
    )
    return parser.parse_args()


async def measure(systems: list[System], numbers_at_once: list[int]) -> dict[str, Any]:
    prompts = Prompts()
    for system in systems:
        await ask(system, prompts.take(16), 16, 8)
    for processes in {system.processes for system in systems}:
        processes.measure_idle()
    added = await first_tokens(systems)
    levels: dict[str, Any] = {}
    for num_at_once in numbers_at_once:
        num_rounds, num_requests = ROUNDS[num_at_once]
        level = Level(num_at_once, num_requests, num_rounds, MAX_TOKENS)
        passes = await in_turns(systems, prompts, level)
        levels[str(num_at_once)] = _with_cpu(beside(passes, BASELINE), passes)
        print(num_at_once, "at once", json.dumps(levels[str(num_at_once)]), flush=True)
    idle = {system.name: round(system.processes.idle_cpu_share, 3) for system in systems}
    return {"idle_cpu_share": idle, "first_token": added, "at_once": levels}


def _with_cpu(level: dict[str, Any], passes: dict[str, list[Pass]]) -> dict[str, Any]:
    return {
        name: {**found, "cpu_ms_per_request": cpu_ms_per_request(passes[name])}
        for name, found in level.items()
    }


def table(report: dict[str, Any]) -> str:
    """The report as a table in Markdown."""
    lines = ["| at once | | first token p50 / p95 | between tokens p50 | tokens/s | CPU a request |"]
    lines.append("|---|---|---|---|---|---|")
    for at_once, level in report["at_once"].items():
        for name, found in level.items():
            lines.append(
                f"| {at_once} | {name} | {found['ttft_p50_ms']:.0f} / {found['ttft_p95_ms']:.0f} ms "
                f"| {found['between_tokens_p50_ms']:.0f} ms "
                f"| {found['output_tokens_per_s']:.0f} ({found['output_tokens_ratio']:.2f}) "
                f"| {found['cpu_ms_per_request']:.0f} ms |"
            )
    lines += [
        "",
        "| one short question | first token p50 / p95 | added to bare vLLM's | 90 % |",
        "|---|---|---|---|",
    ]
    for name, found in report["first_token"].items():
        low, high = found["added_ms_90"]
        lines.append(
            f"| {name} | {found['p50_ms']:.0f} / {found['p95_ms']:.0f} ms "
            f"| {found['added_ms']:+.1f} ms | {low:+.1f} to {high:+.1f} ms |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
