"""Checks the tool calls in the conversations of a training, beyond what the type of a single turn says."""

from collections.abc import Iterable, Sequence

from serve_app.wire.openai_turns import num_argument_values
from serve_app.wire.refused_fields import refused_at
from serve_app.wire.training_turns import AssistantTurn, ToolTurn, Turn, arguments_of

MAX_ARGUMENT_VALUES = 65_536
"""The largest number of JSON values in the arguments of all calls of a training."""

Path = tuple[str | int, ...]


class CallChecks:
    """The check of one training, which bounds the cost of all its conversations together."""

    def __init__(self) -> None:
        self._num_values_left = MAX_ARGUMENT_VALUES

    def check(self, path: Path, turns: Sequence[Turn], known_ids: Iterable[str] = ()) -> set[str]:
        """Checks the calls and the results in `turns`, which lie at `path` in the request.

        `known_ids` are those of the calls before. Returns these ids and those of the calls in `turns`.
        Raises: pydantic.ValidationError: arguments are not a JSON object, or a result has no call.
        """
        ids = set(known_ids)
        for index, turn in enumerate(turns):
            if isinstance(turn, AssistantTurn):
                self._check_arguments((*path, index), turn)
                ids |= {call.id for call in turn.tool_calls or ()}
            elif isinstance(turn, ToolTurn) and turn.tool_call_id not in ids:
                raise refused_at((*path, index, "tool_call_id"), "no call before this turn has this id")
        return ids

    def _check_arguments(self, path: Path, turn: AssistantTurn) -> None:
        for number, call in enumerate(turn.tool_calls or ()):
            place = (*path, "tool_calls", number, "function", "arguments")
            text = call.function.arguments
            self._num_values_left -= num_argument_values(text, self._num_values_left, place)
            try:
                arguments_of(text)
            except ValueError:
                message = "the arguments have a number or a character that JSON cannot have"
                raise refused_at(place, message) from None
