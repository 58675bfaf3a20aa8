"""Two tasks that show the model its answers: fifty questions for capitals, with the city in brackets alone.

    supervised   the answers as they should be
    dpo          pairs of such an answer and of a sentence with the same city; the first is preferred

The measures are those of the task `format`. They are of greedy answers to questions for other countries.
"""

from dataclasses import dataclass

from bench.capitals import CAPITALS, HELD_OUT, question, unwanted, wanted
from bench.learning.curves import ShownSetup
from bench.learning.tasks import Example, Task, in_brackets, mentions_answer
from registry.records import Method


@dataclass(frozen=True)
class Shown:
    """A prompt and two answers, of which only DPO reads the second."""

    prompt: str
    wanted: str
    unwanted: str


SHOWN = tuple(
    Shown(question(country), wanted(city), unwanted(country, city)) for country, city in CAPITALS.items()
)


def _task(method: Method, goal: str) -> Task:
    return Task(
        name=method.value,
        goal=goal,
        quality_means="right answer",
        opening=(),
        max_tokens=24,
        training=(),
        held_out=tuple(Example(question(country), city.lower()) for country, city in HELD_OUT.items()),
        reward=in_brackets,
        quality=mentions_answer,
    )


SHOWN_TASKS = {
    Method.SUPERVISED: _task(Method.SUPERVISED, "brackets, from 50 examples"),
    Method.DPO: _task(Method.DPO, "brackets, from 50 pairs"),
}


def rate_of(method: Method, setup: ShownSetup) -> float:
    return setup.dpo_learning_rate if method is Method.DPO else setup.supervised_learning_rate


def steps_of_epoch(setup: ShownSetup) -> int:
    return -(-len(SHOWN) // setup.batch_size)
