"""Computes the advantages of one group from its rewards, by outcome supervision as in GRPO."""

import math
import statistics
import sys
from collections.abc import Sequence

STABILITY = 1e-4
"""Added to the standard deviation, so that almost equal rewards do not make huge advantages."""


def advantages(rewards: Sequence[float]) -> list[float]:
    """(r - mean) / (std + 1e-4), with the sample standard deviation of the group.

    Every token of response i gets advantage i. The advantages of a group sum to zero; those of equal
    rewards are exactly zero. Source: DeepSeekMath, arXiv:2402.03300, section 4.1.2 (outcome supervision).

    Args:
        rewards: the rewards of the responses of one group. At least two, all finite.
    """
    if all(reward == rewards[0] for reward in rewards):
        # The mean is rounded: without this, equal rewards could have advantages that are not quite zero.
        return [0.0] * len(rewards)
    small, exponent = _scaled(rewards)
    mean = statistics.fmean(small)
    scale = statistics.stdev(small, mean) + math.ldexp(STABILITY, -exponent)
    return [(reward - mean) / scale for reward in small]


def mean_and_deviation(rewards: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation. A result that is larger than any float is the largest float."""
    small, exponent = _scaled(rewards)
    mean = statistics.fmean(small)
    return _unscaled(mean, exponent), _unscaled(statistics.stdev(small, mean), exponent)


def _scaled(rewards: Sequence[float]) -> tuple[list[float], int]:
    """The rewards divided by 2**exponent, so that none is above 1 and no sum or square overflows.

    The division by a power of two changes no digit.
    """
    exponent = max(0, *(math.frexp(reward)[1] for reward in rewards))
    return [math.ldexp(reward, -exponent) for reward in rewards], exponent


def _unscaled(number: float, exponent: int) -> float:
    try:
        return math.ldexp(number, exponent)
    except OverflowError:
        return math.copysign(sys.float_info.max, number)
