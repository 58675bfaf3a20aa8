import math
import statistics
import sys

import pytest

from training.advantages import advantages, mean_and_deviation


def test_two_rewards_by_hand() -> None:
    # mean 0.5, sample standard deviation sqrt(0.5)
    expected = 0.5 / (math.sqrt(0.5) + 1e-4)
    assert advantages([1.0, 0.0]) == pytest.approx([expected, -expected])


def test_the_standard_deviation_is_that_of_a_sample() -> None:
    rewards = [0.1, 0.9, 0.4, -2.0, 7.0]
    scale = statistics.stdev(rewards) + 1e-4
    assert advantages(rewards) == pytest.approx([(r - statistics.mean(rewards)) / scale for r in rewards])


def test_they_sum_to_zero() -> None:
    assert sum(advantages([3.0, -1.0, 0.25, 1e6])) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("reward", [0.0, 0.1, -7.3, 1e300])
def test_equal_rewards_give_exactly_zero(reward: float) -> None:
    assert advantages([reward] * 3) == [0.0, 0.0, 0.0]


def test_they_do_not_depend_on_the_level_of_the_rewards() -> None:
    assert advantages([101.0, 100.0, 103.0]) == pytest.approx(advantages([1.0, 0.0, 3.0]))


HALF_ROOT = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1e308, -1e308], [HALF_ROOT, -HALF_ROOT]),
        ([1e200, 0.0], [HALF_ROOT, -HALF_ROOT]),
        ([1e308, 1e308, 0.0], [1 / math.sqrt(3), 1 / math.sqrt(3), -2 / math.sqrt(3)]),
        ([sys.float_info.max, -sys.float_info.max], [HALF_ROOT, -HALF_ROOT]),
        ([5e-324, 0.0], [0.0, 0.0]),
    ],
)
def test_rewards_of_any_size_have_advantages(rewards: list[float], expected: list[float]) -> None:
    assert advantages(rewards) == pytest.approx(expected)


def test_scaling_changes_no_digit() -> None:
    rewards = [0.1, 0.9, 0.4, -2.0, 7.0, 123.456]
    mean = statistics.fmean(rewards)
    scale = statistics.stdev(rewards, mean) + 1e-4
    assert advantages(rewards) == [(reward - mean) / scale for reward in rewards]
    assert mean_and_deviation(rewards) == (mean, statistics.stdev(rewards, mean))


def test_mean_and_deviation_are_finite_whatever_the_rewards() -> None:
    largest = sys.float_info.max
    assert mean_and_deviation([largest, -largest]) == (0.0, largest)
    assert mean_and_deviation([1e308, 1e308, 0.0]) == pytest.approx((1e308 / 3 * 2, 1e308 / math.sqrt(3)))
