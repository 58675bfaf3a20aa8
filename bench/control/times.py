"""Summarises many measured times in a few numbers."""

import math
from collections.abc import Sequence


def percentile(times: Sequence[float], percent: int) -> float:
    """The smallest of `times` that at least `percent` percent of them do not exceed."""
    return sorted(times)[math.ceil(len(times) * percent / 100) - 1]


def in_ms(times_s: Sequence[float], prefix: str = "") -> dict[str, float]:
    """The values `p50_ms`, `p95_ms` and `p99_ms`; their names begin with `prefix`."""
    return {
        f"{prefix}p{percent}_ms": round(1000 * percentile(times_s, percent), 2) for percent in (50, 95, 99)
    }


def ratio_p50(times_s: Sequence[float], baseline_s: Sequence[float]) -> float:
    return round(percentile(times_s, 50) / percentile(baseline_s, 50), 2)


def against(times_s: Sequence[float], bare_s: Sequence[float]) -> dict[str, float]:
    """Our times and those of the bare handler, in ms, and the ratio of the medians."""
    return {**in_ms(times_s), **in_ms(bare_s, "bare_"), "ratio_p50": ratio_p50(times_s, bare_s)}
