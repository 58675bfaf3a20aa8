"""The conversations of a training, each with its place in the request, for those who measure them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from registry.records import Example, JobRequest, Message, Pair
from training.transcript import learned_turns

TURN_CHARACTERS = 128
"""The number of characters whose tokenising takes about as long as the template takes for an empty turn."""


@dataclass(frozen=True)
class GivenTurns:
    """The turns before the first one that is learned, which several conversations may share."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    path: str

    @cached_property
    def num_characters(self) -> int:
        tools = len(json.dumps(self.tools)) if self.tools else 0
        return tools + sum(map(num_characters, self.messages))

    @property
    def tools_path(self) -> str:
        """The place of the tools, which stand beside the messages."""
        return self.path.removesuffix("messages") + "tools"

    @cached_property
    def key(self) -> str:
        """A text that is the same for the same turns and tools."""
        return json.dumps([[message.model_dump() for message in self.messages], self.tools])


@dataclass(frozen=True)
class TaughtConversation:
    """The turns that follow the given ones; `path` is their place in the request."""

    given: GivenTurns
    turns: tuple[Message, ...]
    path: str
    ends_turn: bool = True

    @property
    def is_text(self) -> bool:
        """True if the only learned turn is the only one that follows, and is a text without tool calls."""
        return len(self.turns) == 1 and self.turns[0].is_trained and not self.turns[0].tool_calls

    @property
    def num_characters(self) -> int:
        return self.given.num_characters + sum(map(num_characters, self.turns))

    @property
    def num_rendered_characters(self) -> int:
        """The number of characters of all learned turns, each with everything before it.

        The cost of tokenising depends on it, because each of these turns has a prompt of its own. Short turns
        cost more than their characters. The given turns before a text do not: they are rendered once for all
        conversations that share them.
        """
        if self.is_text:
            return self.num_characters
        learned = set(learned_turns(self.turns))
        total, before = 0, self.given.num_characters + sum(map(_of_template, self.given.messages))
        for index, turn in enumerate(self.turns):
            before += num_characters(turn) + _of_template(turn)
            total += before if index in learned else 0
        return total


def _of_template(message: Message) -> int:
    """The number of characters that a turn and its calls count beside its text."""
    return TURN_CHARACTERS * (1 + len(message.tool_calls))


def num_characters(message: Message) -> int:
    calls = sum(len(json.dumps(call.function.arguments)) for call in message.tool_calls)
    return len(message.content) + calls


def field_of_all(request: JobRequest, is_single: bool) -> str:
    """Returns the field of the request that has all conversations."""
    if request.groups:
        return "responses" if is_single else "groups"
    return "examples" if request.examples else "pairs"


def conversations_of(request: JobRequest, is_single: bool) -> Iterator[TaughtConversation]:
    """Yields all conversations of a training, in the order of the request, and then those that are measured.

    `is_single`: the request has one group and no list of groups. The paths depend on it.
    """
    yield from _of_groups(request, is_single)
    yield from _of_examples(request.examples, "examples")
    yield from _of_pairs(request.pairs, "pairs")
    yield from _of_examples(request.validation_examples, "validation_examples")
    yield from _of_pairs(request.validation_pairs, "validation_pairs")


def _of_examples(examples: Iterable[Example], field: str) -> Iterator[TaughtConversation]:
    for number, example in enumerate(examples):
        path = f"{field}.{number}.messages"
        first = next(iter(learned_turns(example.messages)), len(example.messages))
        given = GivenTurns(example.messages[:first], example.tools, path)
        yield TaughtConversation(given, example.messages[first:], path)


def _of_pairs(pairs: Iterable[Pair], field: str) -> Iterator[TaughtConversation]:
    for number, pair in enumerate(pairs):
        given = GivenTurns(pair.messages, pair.tools, f"{field}.{number}.messages")
        yield TaughtConversation(given, pair.preferred, f"{field}.{number}.preferred")
        yield TaughtConversation(given, pair.rejected, f"{field}.{number}.rejected")


def _of_groups(request: JobRequest, is_single: bool) -> Iterator[TaughtConversation]:
    for number, group in enumerate(request.groups):
        prefix = "" if is_single else f"groups.{number}."
        given = GivenTurns(group.messages, group.tools, f"{prefix}messages")
        for index, response in enumerate(group.responses):
            path = f"{prefix}responses.{index}."
            if response.messages:
                yield TaughtConversation(given, response.messages, f"{path}messages", response.ends_turn)
            else:
                turn = Message(role="assistant", content=response.content)
                yield TaughtConversation(given, (turn,), f"{path}content", response.ends_turn)
