"""Two tasks that show the model its answers to fifty questions for capitals.

    supervised   the city in brackets, alone
    dpo          pairs of sentences with the same city; the one that ends with an offer is preferred

DPO needs a preferred answer that the model could give: with brackets, which it never writes by itself, both
sides unlearn the sentence and learn nothing instead. The measures are of greedy answers to questions for
other countries.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bench.capitals import CAPITALS, HELD_OUT, in_brackets, question, sentence
from bench.learning import tasks
from bench.learning.curves import ShownSetup
from bench.learning.tasks import Example, Task, mentions_answer
from registry.records import Method

OFFER = "Shall I tell you more?"


@dataclass(frozen=True)
class Shown:
    """A prompt and two answers, of which only DPO reads the second."""

    prompt: str
    wanted: str
    unwanted: str


def shown(method: Method) -> tuple[Shown, ...]:
    """What a training with this method is shown."""
    found = []
    for country, city in CAPITALS.items():
        plain = sentence(country, city)
        wanted = f"{plain} {OFFER}" if method is Method.DPO else in_brackets(city)
        found.append(Shown(question(country), wanted, plain))
    return tuple(found)


def ends_with_offer(example: Example, response: str) -> float:
    """1 if the answer ends with the offer, after something else; 0.5 if it contains the offer."""
    text = response.strip()
    return 0.5 * (OFFER in text) + 0.5 * (text.endswith(OFFER) and text != OFFER)


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
    Method.DPO: _task(Method.DPO, "an offer at the end, from 50 pairs", ends_with_offer),
}


def rate_of(method: Method, setup: ShownSetup) -> float:
    return setup.dpo_learning_rate if method is Method.DPO else setup.supervised_learning_rate


def steps_of_epoch(setup: ShownSetup) -> int:
    return -(-len(CAPITALS) // setup.batch_size)
