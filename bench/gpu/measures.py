"""Small computations on measured values."""

import re
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

FELL_ASLEEP = re.compile(r"It took ([0-9.]+) seconds to fall asleep")
WOKE_UP = re.compile(r"It took ([0-9.]+) seconds to wake up")


def ratio(value: float, baseline: float) -> float | None:
    """`value` divided by `baseline`; None if the baseline is 0, as after a failure."""
    return round(value / baseline, 3) if baseline else None


def gaps_of(streams_s: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The median and the longest time between two tokens of one stream, and their ratio.

    `streams_s` has the times at which the tokens of each stream arrived.
    """
    gaps_ms = [1000 * (later - earlier) for stream in streams_s for earlier, later in pairwise(stream)]
    if not gaps_ms:
        return {"gaps": 0, "median_ms": None, "longest_ms": None, "ratio": None}
    median_ms, longest_ms = statistics.median(gaps_ms), max(gaps_ms)
    return {
        "gaps": len(gaps_ms),
        "median_ms": round(median_ms, 1),
        "longest_ms": round(longest_ms, 1),
        "ratio": ratio(longest_ms, median_ms),
    }


def first_over_warm(first_s: Sequence[float], warm_s: Sequence[float]) -> dict[str, Any]:
    """The medians of first and of warm times, in ms, and the median and the worst of their differences."""
    differences = [1000 * (first - warm) for first, warm in zip(first_s, warm_s, strict=True)]
    return {
        "asks": len(differences),
        "first_p50_ms": round(1000 * statistics.median(first_s), 1),
        "warm_p50_ms": round(1000 * statistics.median(warm_s), 1),
        "over_warm_p50_ms": round(statistics.median(differences), 1),
        "over_warm_worst_ms": round(max(differences), 1),
    }


def sleep_times(lines: Iterable[str]) -> dict[str, list[float]]:
    """The seconds that an engine took to fall asleep and to wake up, each time, according to its log."""
    found: dict[str, list[float]] = {"fall_asleep_s": [], "wake_up_s": []}
    for line in lines:
        for name, pattern in (("fall_asleep_s", FELL_ASLEEP), ("wake_up_s", WOKE_UP)):
            if match := pattern.search(line):
                found[name].append(round(float(match.group(1)), 3))
    return found
