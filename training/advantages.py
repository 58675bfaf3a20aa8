"""Rewards of one group -> advantages, by outcome supervision as in GRPO."""

import statistics
from collections.abc import Sequence

STABILITY = 1e-4
"""Added to the standard deviation, so that almost equal rewards do not make huge advantages."""


def advantages(rewards: Sequence[float]) -> list[float]:
    """(r - mean) / (std + 1e-4), with the sample standard deviation of the group.

    Every token of response i gets advantage i. The advantages of a group sum to zero; those of equal
    rewards are exactly zero. Source: DeepSeekMath, arXiv:2402.03300, section 4.1.2 (outcome supervision).

    Args:
        rewards: of the responses of one group, at least two, all finite.
    """
    if all(reward == rewards[0] for reward in rewards):
        # The mean is rounded, so that equal rewards could otherwise leave a residue of it.
        return [0.0] * len(rewards)
    mean = statistics.fmean(rewards)
    scale = statistics.stdev(rewards, mean) + STABILITY
    return [(reward - mean) / scale for reward in rewards]
