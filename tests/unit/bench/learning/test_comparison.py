"""The comparison of several runs of two sides."""

from bench.learning.comparison import as_line, compare
from bench.learning.curves import Curve, HeldOut, Round


def held_out(reward: float) -> HeldOut:
    return HeldOut(reward=reward, quality=1.0, distinct=1.0, answers=[])


def curve(*rewards: float | None, at_end: float = 1.0, kl: float | None = 0.5) -> Curve:
    rounds = [Round(n, reward, kl, held_out(at_end), 0.0, 1.0) for n, reward in enumerate(rewards, 1)]
    return Curve(held_out(0.0), rounds)


def test_the_last_rounds_of_all_runs_count() -> None:
    found = compare([curve(0.0, 0.6, 0.8), curve(0.2, 0.8, 1.0)], [curve(0.0, 1.0, 1.0)], num_last=2)
    assert found["runs"] == {"tiger": 2, "trl": 1}
    assert found["first_round_reward"] == {"tiger": 0.1, "trl": 0.0}
    assert found["last_rounds"]["tiger"]["reward"] == 0.8
    assert found["lowest_and_highest_run"]["tiger"]["reward"] == [0.7, 0.9]
    assert found["ratio"]["reward"] == 0.8
    assert not found["reaches"] and found["reaches_held_out"]


def test_a_round_that_trained_nothing_has_no_kl() -> None:
    found = compare([curve(1.0, kl=0.2), curve(1.0, kl=None)], [curve(1.0, kl=None)])
    assert found["last_rounds"]["tiger"]["kl"] == 0.2
    assert found["last_rounds"]["trl"]["kl"] is None
    assert found["lowest_and_highest_run"]["trl"]["kl"] is None


def test_a_task_without_samples_is_compared_on_its_held_out_prompts() -> None:
    found = compare([curve(None, at_end=0.9)], [curve(None, at_end=1.0)], num_last=1)
    assert found["reaches"] is None and found["ratio"]["reward"] is None
    assert found["ratio"]["held_out_reward"] == 0.9 and not found["reaches_held_out"]
    assert as_line("dpo", found) == (
        "dpo        reward -, held out 0.90 : 1.00 (ratio 0.9); reaches TRL's: -, held out: no"
    )
