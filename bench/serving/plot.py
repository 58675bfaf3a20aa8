"""The report as a picture: time to first token and output tokens a second, by requests at once.

python -m bench.serving.plot bench/results/serving.json       draws it anew
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
        _bars(left, report["at_once"], "ttft_p50_ms", "ttft_p95_ms")
        left.set_title("time to first token in ms: median, and 95th percentile", loc="left", fontsize=9)
        left.set_yscale("log")
        _bars(right, report["at_once"], "output_tokens_per_s")
        right.set_title("output tokens a second", loc="left", fontsize=9)
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, dpi=150, facecolor="white")
        pyplot.close(figure)


def _bars(axes: Axes, levels: dict[str, Any], measure: str, upper: str | None = None) -> None:
    """A group of bars a level, one of each system, with a line up to `upper`."""
    width = 0.8 / len(COLORS)
    for position, (name, color) in enumerate(COLORS.items()):
        places = [level + (position - (len(COLORS) - 1) / 2) * width for level in range(len(levels))]
        heights = [level[name][measure] for level in levels.values()]
        axes.bar(places, heights, width * 0.92, color=color, label=name)
        if upper is not None:
            tops = [level[name][upper] for level in levels.values()]
            axes.vlines(places, heights, tops, color=color, linewidth=1)
    axes.set_xticks(range(len(levels)), [f"{at_once} at once" for at_once in levels])
    axes.grid(visible=False, axis="x")


if __name__ == "__main__":
    results = Path(sys.argv[1])
    plot(json.loads(results.read_text()), results.with_suffix(".png"))
