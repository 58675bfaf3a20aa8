"""Compares our curves with TRL's."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from bench.learning.curves import Curve, Round

NUM_LAST = 3
"""The number of rounds at the end that are compared. One round alone has too few samples."""

REACHED = 0.95
"""The share of TRL's reward that counts as reaching it. The standard error of a mean of three rounds of 32
samples is a few hundredths."""

MEASURES: dict[str, Callable[[Round], float | None]] = {
    "reward": lambda found: found.reward,
    "held_out_reward": lambda found: found.held_out.reward,
    "held_out_quality": lambda found: found.held_out.quality,
    "held_out_distinct": lambda found: found.held_out.distinct,
    "kl": lambda found: found.kl,
    "other_kl": lambda found: found.other_kl,
}
COMPARED = ("reward", "held_out_reward")


def compare(tiger: Sequence[Curve], trl: Sequence[Curve], num_last: int = NUM_LAST) -> dict[str, Any]:
    """Compare the means over the runs and the last `num_last` rounds of each side.

    A measure that a task does not have is None, and so is what is made of it.
    """
    sides = {"tiger": tiger, "trl": trl}
    last = {side: _at_the_end(curves, num_last) for side, curves in sides.items()}
    ours, theirs = last["tiger"], last["trl"]
    return {
        "runs": {side: len(curves) for side, curves in sides.items()},
        "first_round_reward": {
            side: _mean([curve.rounds[0].reward for curve in curves]) for side, curves in sides.items()
        },
        "last_rounds": last,
        "lowest_and_highest_run": {
            side: _ends([_at_the_end([curve], num_last) for curve in curves])
            for side, curves in sides.items()
        },
        "ratio": {name: _ratio(ours[name], theirs[name]) for name in COMPARED},
        "reaches": _reaches(ours["reward"], theirs["reward"]),
        "reaches_held_out": _reaches(ours["held_out_reward"], theirs["held_out_reward"]),
    }


def as_line(name: str, comparison: dict[str, Any]) -> str:
    def both(measure: str) -> str:
        ours, theirs = (comparison["last_rounds"][side][measure] for side in ("tiger", "trl"))
        return "-" if ours is None else f"{ours:.2f} : {theirs:.2f} (ratio {comparison['ratio'][measure]})"

    return (
        f"{name:10} reward {both('reward')}, held out {both('held_out_reward')}; "
        f"reaches TRL's: {_yes(comparison['reaches'])}, held out: {_yes(comparison['reaches_held_out'])}"
    )


def _at_the_end(curves: Sequence[Curve], num_last: int) -> dict[str, float | None]:
    last = [found for curve in curves for found in curve.rounds[-num_last:]]
    return {name: _mean([measure(found) for found in last]) for name, measure in MEASURES.items()}


def _ends(runs: Sequence[dict[str, float | None]]) -> dict[str, list[float] | None]:
    """The lowest and the highest value of each measure of several runs."""
    found: dict[str, list[float] | None] = {}
    for name in MEASURES:
        values = [value for run in runs if (value := run[name]) is not None]
        found[name] = [min(values), max(values)] if values else None
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are there, or None."""
    there = [value for value in values if value is not None]
    return round(statistics.fmean(there), 3) if there else None


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 2) if ours is not None and theirs else None


def _reaches(ours: float | None, theirs: float | None) -> bool | None:
    return None if ours is None or theirs is None else ours >= REACHED * theirs


def _yes(answer: bool | None) -> str:
    return "-" if answer is None else "yes" if answer else "no"
