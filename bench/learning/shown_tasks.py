"""Two tasks that show the model its answers to fifty questions for capitals.

    supervised   the city in brackets, alone
    dpo          pairs of sentences that say the same; the one that begins with the city is preferred

DPO needs a preferred answer that the model could give: with brackets, which it never writes by itself, TRL
and we unlearn the sentence and learn nothing instead. The measures are of greedy answers to questions for
other countries.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from bench.capitals import CAPITALS, HELD_OUT, city_first, city_last, in_brackets, question
from bench.learning import tasks
from bench.learning.curves import ShownSetup
from bench.learning.tasks import Example, Task, mentions_answer
from registry.records import Method


@dataclass(frozen=True)
class Shown:
    """A prompt and two answers, of which only DPO reads the second."""

    prompt: str
    wanted: str
    unwanted: str


def shown(method: Method) -> tuple[Shown, ...]:
    """Returns the answers that a training with this method is shown."""
    wanted = city_first if method is Method.DPO else in_brackets
    return tuple(
        Shown(question(country), wanted(country, city), city_last(country, city))
        for country, city in CAPITALS.items()
    )


def has_city_first(example: Example, response: str) -> float:
    """1 if the answer says at once that something is the capital of a country."""
    return float(re.match(r"\s*[^.!?\n]+ is the capital of \w", response) is not None)


def _task(method: Method, goal: str, reward: Callable[[Example, str], float]) -> Task:
    return Task(
        name=method.value,
        goal=goal,
        quality_means="right answer",
        opening=(),
        max_tokens=24,
        training=(),
        held_out=tuple(Example(question(country), city.lower()) for country, city in HELD_OUT.items()),
        reward=reward,
        quality=mentions_answer,
    )


SHOWN_TASKS = {
    Method.SUPERVISED: _task(Method.SUPERVISED, "brackets, from 50 examples", tasks.in_brackets),
    Method.DPO: _task(Method.DPO, "the city first, from 50 pairs", has_city_first),
}


def rate_of(method: Method, setup: ShownSetup) -> float:
    return setup.dpo_learning_rate if method is Method.DPO else setup.supervised_learning_rate


def steps_of_epoch(setup: ShownSetup) -> int:
    return -(-len(CAPITALS) // setup.batch_size)
