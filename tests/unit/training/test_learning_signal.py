import pytest

from registry.records import Group, Message, RewardedResponse
from training.advantages import advantages
from training.learning_signal import is_empty, is_lost, missing


@pytest.mark.parametrize(
    ("rewards", "sizes", "lost"),
    [
        ((1, 0), (0, 0), True),
        ((1, 0), (0, 3), False),
        ((0.1, 0.2, 0.3), (0, 5, 0), True),  # the mean of these is not exactly 0.2
        ((0.1, 0.2, 0.3), (0, 5, 1), False),
        ((1, 1), (0, 0), False),  # nothing there was to be lost
    ],
)
def test_a_signal_is_lost_with_the_responses_that_carry_it(
    rewards: tuple[float, ...], sizes: tuple[int, ...], lost: bool
) -> None:
    assert is_lost(zip(advantages(rewards), sizes, strict=True)) == lost


def test_one_group_that_has_a_signal_is_enough() -> None:
    assert not is_lost([(1.0, 0), (-1.0, 0), (0.0, 7), (1.0, 3), (-1.0, 0)])


def test_what_is_missing_is_counted() -> None:
    endings = (("a", True), ("b", False), ("", False), ("", True))
    responses = tuple(RewardedResponse(content=text, reward=0, ends_turn=ends) for text, ends in endings)
    group = Group(messages=(Message(role="user", content="?"),), responses=responses)
    assert missing([group, group]) == {"cut_responses": 4, "empty_responses": 2}


@pytest.mark.parametrize(
    ("turns", "ends_turn", "has_none"),
    [
        ([("assistant", "")], False, True),
        ([("assistant", "")], True, False),
        ([("assistant", "a")], False, False),
        ([("assistant", "a"), ("tool", "b"), ("assistant", "")], False, False),
    ],
)
def test_trajectory_is_empty_if_its_only_turn_was_cut_before_its_first_token(
    turns: list[tuple[str, str]], ends_turn: bool, has_none: bool
) -> None:
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    assert is_empty(RewardedResponse(messages=messages, reward=0, ends_turn=ends_turn)) == has_none


def test_turn_before_a_cut_one_that_is_not_learned_has_its_end() -> None:
    first = Message(role="assistant", content="")
    cut = Message(role="assistant", content="b", is_trained=False)
    messages = (first, Message(role="tool", content="a"), cut)
    assert not is_empty(RewardedResponse(messages=messages, reward=0, ends_turn=False))
    assert is_empty(RewardedResponse(messages=(first,), reward=0, ends_turn=False))
