"""What the tasks show, and how an offer is scored."""

import pytest

from bench.capitals import CAPITALS, HELD_OUT
from bench.learning.shown_tasks import OFFER, ends_with_offer, shown
from bench.learning.tasks import Example
from registry.records import Method


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (f"The capital of France is Paris. {OFFER}", 1.0),
        (f"Paris. {OFFER}\n", 1.0),
        (f"Paris. {OFFER} {OFFER} I know", 0.5),
        (OFFER, 0.5),
        ("The capital of France is Paris.", 0.0),
        ("", 0.0),
    ],
)
def test_offer_ends_an_answer(answer: str, score: float) -> None:
    assert ends_with_offer(Example("What is the capital of France?", "paris"), answer) == score


@pytest.mark.parametrize("method", [Method.SUPERVISED, Method.DPO])
def test_each_country_is_shown_once_and_none_that_is_held_out(method: Method) -> None:
    pairs = shown(method)
    assert len({each.prompt for each in pairs}) == len(pairs) == len(CAPITALS)
    assert not [country for country in HELD_OUT for each in pairs if country in each.prompt]
    assert all(each.wanted != each.unwanted for each in pairs)
