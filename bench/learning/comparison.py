"""Compares our curve with TRL's."""

import statistics
from collections.abc import Sequence
from typing import Any

from bench.learning.curves import Curve, Round

NUM_LAST = 3
"""The number of rounds at the end that are compared. One round alone has too few samples."""

REACHED = 0.95
"""The share of TRL's reward that counts as reaching it. The standard error of a mean of three rounds of 32
samples is a few hundredths."""


def compare(tiger: Sequence[Curve], trl: Sequence[Curve]) -> dict[str, Any]:
    """Compare the means over the runs and the last rounds of each side."""
    ours, theirs = _at_the_end(tiger), _at_the_end(trl)
    ratios = {
        name: round(ours[name] / theirs[name], 2) if theirs[name] else None
        for name in ("reward", "held_out_reward")
    }
    return {
        "first_round_reward": {
            "tiger": round(statistics.fmean(curve.rounds[0].reward for curve in tiger), 3),
            "trl": round(statistics.fmean(curve.rounds[0].reward for curve in trl), 3),
        },
        "last_rounds": {"tiger": ours, "trl": theirs},
        "ratio": ratios,
        "reaches": ours["reward"] >= REACHED * theirs["reward"],
        "reaches_held_out": ours["held_out_reward"] >= REACHED * theirs["held_out_reward"],
    }


def as_line(name: str, comparison: dict[str, Any]) -> str:
    def both(measure: str) -> str:
        ours, theirs = (comparison["last_rounds"][side][measure] for side in ("tiger", "trl"))
        return f"{ours:.2f} : {theirs:.2f} (ratio {comparison['ratio'][measure]})"

    return (
        f"{name:7} reward {both('reward')}, held out {both('held_out_reward')}; "
        f"reaches TRL's: {_yes(comparison['reaches'])}, held out: {_yes(comparison['reaches_held_out'])}"
    )


def _at_the_end(curves: Sequence[Curve]) -> dict[str, Any]:
    last: list[Round] = [found for curve in curves for found in curve.rounds[-NUM_LAST:]]
    kls = [found.kl for found in last if found.kl is not None]
    return {
        "reward": round(statistics.fmean(found.reward for found in last), 3),
        "held_out_reward": round(statistics.fmean(found.held_out.reward for found in last), 3),
        "held_out_quality": round(statistics.fmean(found.held_out.quality for found in last), 3),
        "held_out_distinct": round(statistics.fmean(found.held_out.distinct for found in last), 3),
        "kl": round(statistics.fmean(kls), 3) if kls else None,
    }


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
