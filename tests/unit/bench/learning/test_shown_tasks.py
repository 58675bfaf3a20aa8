"""The tasks show each country once, and their rewards see the order of a sentence."""

import pytest

from bench.capitals import CAPITALS, HELD_OUT
from bench.learning.shown_tasks import has_city_first, shown
from bench.learning.tasks import Example
from registry.records import Method


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Paris is the capital of France.", 1.0),
        (" Lyon, I think, is the capital of France and large", 1.0),
        ("The capital of France is Paris.", 0.0),
        ("I know. Paris is the capital of France.", 0.0),
        ("Paris", 0.0),
        ("", 0.0),
    ],
)
def test_city_comes_first(answer: str, score: float) -> None:
    assert has_city_first(Example("What is the capital of France?", "paris"), answer) == score


@pytest.mark.parametrize("method", [Method.SUPERVISED, Method.DPO])
def test_each_country_is_shown_once_and_none_that_is_held_out(method: Method) -> None:
    pairs = shown(method)
    assert len({each.prompt for each in pairs}) == len(pairs) == len(CAPITALS)
    assert not [country for country in HELD_OUT for each in pairs if country in each.prompt]
    assert all(each.wanted != each.unwanted for each in pairs)
