"""Draws the report: a row for each task, with the reward, the quality that the reward does not see, and KL.

python -m bench.learning.plot bench/results/learning.json       draws the picture again
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

SIDES = {"tiger": ("tiger", "#d9570b"), "trl": ("TRL's trainer", "#2f6690")}
INK, FAINT = "#33312e", "#e4e1da"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#b8b4ab",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
}
Points = list[tuple[float, list[float]]]
"""The points of a line: x, and the values of all runs."""


def plot(report: dict[str, Any], path: Path) -> None:
    tasks = report["tasks"]
    with pyplot.rc_context(STYLE):
        figure, grid = pyplot.subplots(
            len(tasks), 3, figsize=(11, 0.9 + 2.5 * len(tasks)), squeeze=False, layout="constrained"
        )
        layout: Any = figure.get_layout_engine()
        layout.set(w_pad=0.12, h_pad=0.1)
        for row, (name, task) in zip(grid, tasks.items(), strict=True):
            _row(row, name, task)
            for axes in row:
                axes.set_xlabel("trainings so far" if _has_samples(task) else "epochs so far", fontsize=8)
        _legend(figure, report)
        figure.savefig(path, dpi=150, facecolor="white")
        pyplot.close(figure)


def _row(row: list[Axes], name: str, task: dict[str, Any]) -> None:
    reward, quality, kl = row
    reward.set_title(f"{name}: {task['goal']}", loc="left", fontweight="bold", fontsize=9)
    quality.set_title(f"held-out prompts: {task['quality']}", loc="left", fontsize=9)
    kl.set_title("KL to the base model, nats per token", loc="left", fontsize=9)
    for side, (_, colour) in SIDES.items():
        curves = task[side]
        _line(reward, _of_rounds(curves, "reward", -1), colour)
        _line(reward, _of_held_out(curves, "reward"), colour, linestyle=(0, (3, 2)), linewidth=1.2)
        _line(quality, _of_held_out(curves, "quality"), colour)
        _line(kl, _of_rounds(curves, "kl", 0), colour)
        _line(kl, _of_rounds(curves, "other_kl", 0), colour, linestyle=(0, (1, 1.5)), linewidth=1.5)
    num_rounds = max(len(curve["rounds"]) for side in SIDES for curve in task[side])
    for axes in row:
        axes.set_xlim(-0.2, num_rounds + 0.2)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (reward, quality):
        axes.set_ylim(-0.04, 1.04)
    kl.set_ylim(bottom=0)


def _has_samples(task: dict[str, Any]) -> bool:
    return any(curve["rounds"][0]["reward"] is not None for side in SIDES for curve in task[side])


def _line(axes: Axes, points: Points, colour: str, **look: Any) -> None:
    """Draw the mean of the runs as a line, and their range as a band."""
    if not points:
        return
    xs = [x for x, _ in points]
    means = [statistics.fmean(values) for _, values in points]
    axes.plot(xs, means, color=colour, **{"linewidth": 2, **look})
    if any(len(values) > 1 for _, values in points):
        lows, highs = ([pick(values) for _, values in points] for pick in (min, max))
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.10, linewidth=0)


def _of_rounds(curves: list[Any], measure: str, shift: int) -> Points:
    """The points of a measure by round. A round in which no run has the measure is left out."""
    points = []
    for rounds in zip(*(curve["rounds"] for curve in curves), strict=True):
        values = [found[measure] for found in rounds if found.get(measure) is not None]
        if values:
            points.append((rounds[0]["number"] + shift, values))
    return points


def _of_held_out(curves: list[Any], measure: str) -> Points:
    series = [
        [curve["start"][measure], *(found["held_out"][measure] for found in curve["rounds"])]
        for curve in curves
    ]
    return [(x, list(values)) for x, values in enumerate(zip(*series, strict=True))]


def _legend(figure: Any, report: dict[str, Any]) -> None:
    def sample(label: str, colour: str, linestyle: Any) -> Any:
        return Line2D([], [], color=colour, linestyle=linestyle, linewidth=2, label=label)

    setup, shown = report["setup"], report["shown_setup"]
    samples = [
        *(sample(label, colour, "-") for label, colour in SIDES.values()),
        sample("reward of the samples", INK, "-"),
        sample("reward on held-out prompts, greedy", INK, (0, (3, 2))),
        sample("KL on answers to other prompts", INK, (0, (1, 1.5))),
    ]
    figure.legend(handles=samples, loc="outside upper left", ncols=5, frameon=False, fontsize=8.5)
    figure.supxlabel(
        "SmolLM2-135M-Instruct; lines: means of the runs, bands: lowest and highest run\n"
        f"rewards: {setup['learning_steps']} steps at {setup['learning_rate']:g} on groups of "
        f"{setup['group_size']}, beta {setup['beta']}; supervised: {shown['supervised_learning_rate']:g}, "
        f"dpo: {shown['dpo_learning_rate']:g} and beta {shown['beta']}, batches of {shown['batch_size']}",
        fontsize=7.5,
        color="#77736b",
    )


if __name__ == "__main__":
    source = Path(sys.argv[1])
    plot(json.loads(source.read_text()), source.with_suffix(".png"))
