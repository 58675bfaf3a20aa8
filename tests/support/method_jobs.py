"""Supervised jobs and DPO jobs on the tiny model."""

from typing import Any

from registry.records import Example, Hyperparameters, JobRequest, Message, Method, Pair
from tests.support.tiny_jobs import tiny_assignment
from training.types import Assignment

BETA = 0.5
LAST_REVISION = 9
"""The number of the last revision of a job that makes one of each epoch."""
METHODS = (Method.SUPERVISED, Method.DPO)


def conversation(*contents: str) -> tuple[Message, ...]:
    """Turns of the user and of the assistant, one after the other."""
    roles = ("user", "assistant") * len(contents)
    return tuple(Message(role=role, content=content) for role, content in zip(roles, contents, strict=False))


EXAMPLES = (
    Example(messages=conversation("name_a_colour:", "blue,like_the_sea")),
    Example(messages=conversation("2+2=", "4", "and_3+3=", "it_is_6,I_think")),
    Example(messages=conversation("name_a_colour:", "red"), weight=0.5),
    Example(messages=conversation("name_a_day:", "it_is_hard_to_say_which"), weight=0),
    Example(messages=conversation("which_is_the_longest_of_all_these_prompts?", "this_one")),
)


def pair(question: str, preferred: str, rejected: str) -> Pair:
    return Pair(
        messages=conversation(question),
        preferred=(Message(role="assistant", content=preferred),),
        rejected=(Message(role="assistant", content=rejected),),
    )


PAIRS = (
    pair("name_a_colour:", "blue,like_the_sea", "no"),
    pair("2+2=", "4", "it_is_hard_to_say_which"),
    pair("which_is_the_longest_of_all_these_prompts?", "this_one", "I_do_not_know"),
    pair("name_a_colour:", "red", "x"),
    pair("2+2=", "four", "5"),
)


def method_assignment(
    method: Method,
    steps: int = 4,
    dropout: float = 0.0,
    attempt: int = 1,
    examples: tuple[Example, ...] = EXAMPLES,
    pairs: tuple[Pair, ...] = PAIRS,
    **values: Any,
) -> Assignment:
    """An assignment of a method on the examples or pairs above."""
    given = {"learning_rate": 1e-2, "beta": BETA, "epsilon": 0.0} | values
    hyperparameters = Hyperparameters(learning_steps=steps, **given)
    taught: dict[str, Any] = {"examples": examples} if method is Method.SUPERVISED else {"pairs": pairs}
    request = JobRequest(method=method, hyperparameters=hyperparameters, **taught)
    usual = tiny_assignment(steps, dropout=dropout, attempt=attempt)
    return usual.model_copy(update={"request": request})


def validated(method: Method, steps: int = 4, **values: Any) -> Assignment:
    """A job whose validation rows are its own rows, and which makes a revision of each epoch."""
    assignment = method_assignment(method, steps, **values)
    given = "examples" if method is Method.SUPERVISED else "pairs"
    rows = {f"validation_{given}": getattr(assignment.request, given), "keeps_epochs": True}
    return assignment.model_copy(
        update={"request": assignment.request.model_copy(update=rows), "revision": LAST_REVISION}
    )
