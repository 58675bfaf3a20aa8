"""Draws the report: time to first token and output tokens per second, by requests at once.

python -m bench.serving.plot bench/results/serving.json       draws the picture again
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.learning.plot import STYLE

COLORS = {
    "vllm": "#33312e",
    "ray-serve-llm": "#2f6690",
    "tiger-openai": "#d9570b",
    "tiger-native": "#eda268",
}


def plot(report: dict[str, Any], path: Path) -> None:
    with pyplot.rc_context(STYLE):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
        _bars(left, _to_bare(report), "p50", "p95")
        left.set_title(
            "time to first token, bare vLLM's median = 1 (lines: to the 95th percentile)",
            loc="left",
            fontsize=9,
        )
        _bars(right, _by_number(report), "output_tokens_per_s")
        right.set_title("output tokens a second", loc="left", fontsize=9)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, dpi=150, facecolor="white")
        pyplot.close(figure)


def _by_number(report: dict[str, Any]) -> dict[str, Any]:
    return {f"{at_once} at once": level for at_once, level in report["at_once"].items()}


def _to_bare(report: dict[str, Any]) -> dict[str, Any]:
    """Times to first token of all measurements, as ratios. They differ too much for one axis in ms."""

    def relative(level: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        bare_ms = level["vllm"][f"{prefix}p50_ms"]
        return {
            name: {part: found[f"{prefix}{part}_ms"] / bare_ms for part in ("p50", "p95")}
            for name, found in level.items()
        }

    several = {label: relative(level, "ttft_") for label, level in _by_number(report).items()}
    return {"one short question": relative(report["first_token"]), **several}


def _bars(axes: Axes, levels: dict[str, Any], measure: str, upper: str | None = None) -> None:
    """Draw a group of bars for each level, one bar for each system, with a line up to `upper`."""
    width = 0.8 / len(COLORS)
    for position, (name, color) in enumerate(COLORS.items()):
        places = [level + (position - (len(COLORS) - 1) / 2) * width for level in range(len(levels))]
        heights = [level[name][measure] for level in levels.values()]
        axes.bar(places, heights, width * 0.92, color=color, label=name)
        if upper is not None:
            tops = [level[name][upper] for level in levels.values()]
            axes.vlines(places, heights, tops, color=color, linewidth=1)
    axes.set_xticks(range(len(levels)), list(levels))
    axes.grid(visible=False, axis="x")


if __name__ == "__main__":
    results = Path(sys.argv[1])
    plot(json.loads(results.read_text()), results.with_suffix(".png"))
