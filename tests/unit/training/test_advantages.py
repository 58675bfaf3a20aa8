import math
import statistics

import pytest

from training.advantages import advantages


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
