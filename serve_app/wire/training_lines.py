"""The lines of training files in the forms of OpenAI's API, and the records that they become.

    {"messages": [...], "tools": [...]}                                           ->  Example
    {"input": {...}, "preferred_output": [...], "non_preferred_output": [...]}    ->  Pair

Unlike the messages of a request, those of a file have no unknown fields: a misspelt `weight` would teach what
it should not. A field whose value is null counts as missing, because programs write such fields.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from registry.errors import InvalidRequest
from registry.records import CalledFunction, Example, Message, Pair, ToolCall
from serve_app.wire.base import Request
from serve_app.wire.generate import MAX_MESSAGES
from serve_app.wire.json_bounds import check_json
from serve_app.wire.openai import MAX_TOOLS
from serve_app.wire.openai_formats import FunctionDefinition, SizeOfTools, Tool
from serve_app.wire.openai_turns import (
    AssistantTurn,
    Content,
    GivenMessage,
    ToolResult,
    check_arguments,
)
from serve_app.wire.refused_fields import refused, refused_at, without_refused

MAX_LINE_BYTES = 4 * 2**20
MAX_LINE_VALUES = 2**16
MAX_LINE_DEPTH = 100
MAX_PROBLEM_CHARACTERS = 300
OF_PREFERENCES = frozenset({"input", "preferred_output", "non_preferred_output"})
"""The fields of which a conversation has none."""


class BadLine(Exception):
    """A line that teaches nothing. `args[0]` says why, without the number of the line."""


class Exact(BaseModel):
    """A part of a file without unknown fields. Fields whose value is null are left out."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}


class GivenTurn(GivenMessage, Exact):
    pass


class ResultTurn(ToolResult, Exact):
    pass


class AnswerTurn(AssistantTurn, Exact):
    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.content or self.refusal or self.tool_calls):
            raise ValueError("the message needs `content` or `tool_calls`")
        return self


class WeightedTurn(AnswerTurn):
    weight: Literal[0, 1] = Field(1, description="0: nothing is learned about this message")


class TaughtFunction(FunctionDefinition):
    """A function that the model is shown. Its schema is text for the model, so it may be any object."""

    parameters: dict[str, Any] | None = None


class TaughtTool(Tool):
    function: TaughtFunction


Turn = GivenTurn | AnswerTurn | ResultTurn
Turns = Annotated[
    list[Annotated[Turn, Field(discriminator="role")]],
    Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES),
]
Outputs = Annotated[
    list[Annotated[AnswerTurn | ResultTurn, Field(discriminator="role")]],
    Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES),
]
WeightedTurns = Annotated[
    list[Annotated[GivenTurn | WeightedTurn | ResultTurn, Field(discriminator="role")]],
    Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES),
]
Tools = Annotated[list[TaughtTool], Field(fail_fast=True, max_length=MAX_TOOLS), SizeOfTools]


class WithTools(Request):
    """The fields that a conversation has beside its messages."""

    tools: Tools | None = None
    parallel_tool_calls: bool | None = Field(None, description="no effect")

    @model_validator(mode="before")
    @classmethod
    def _without_refused(cls, body: Any) -> Any:
        return without_refused(body, cls.model_fields)

    def tool_records(self) -> tuple[dict[str, Any], ...]:
        return tuple(tool.model_dump(exclude_none=True) for tool in self.tools or ())


class ConversationLine(WithTools):
    """A conversation whose messages of the assistant are imitated."""

    messages: WeightedTurns

    @model_validator(mode="after")
    def _can_be_learned(self) -> Self:
        learned = [turn for turn in self.messages if isinstance(turn, WeightedTurn)]
        if not learned:
            raise refused("messages", "there is no message of the assistant to learn from")
        if not any(turn.weight for turn in learned):
            raise refused("messages", "every message of the assistant has the weight 0")
        if not isinstance(self.messages[-1], WeightedTurn):
            raise refused("messages", "the last message must be of the assistant")
        _check_calls(("messages",), self.messages, set())
        return self

    def record(self) -> Example:
        return Example(messages=_messages(self.messages), tools=self.tool_records())


class PreferenceInput(WithTools):
    messages: Turns

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if isinstance(self.messages[-1], AnswerTurn):
            raise refused("messages", "the last message must not be of the assistant")
        return self


class PreferenceLine(Request):
    """A prompt and two responses, of which the first is preferred."""

    input: PreferenceInput
    preferred_output: Outputs
    non_preferred_output: Outputs

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        asked: set[str] = set()
        _check_calls(("input", "messages"), self.input.messages, asked)
        for field in ("preferred_output", "non_preferred_output"):
            turns = getattr(self, field)
            if not isinstance(turns[-1], AnswerTurn):
                raise refused(field, "the last message must be of the assistant")
            _check_calls((field,), turns, set(asked))
        return self

    def record(self) -> Pair:
        return Pair(
            messages=_messages(self.input.messages),
            preferred=_messages(self.preferred_output),
            rejected=_messages(self.non_preferred_output),
            tools=self.input.tool_records(),
        )


def parse_line(line: bytes) -> Example | Pair:
    """Returns the record of a line. Raises: BadLine."""
    body = _body(line)
    form: type[ConversationLine | PreferenceLine] = (
        PreferenceLine if OF_PREFERENCES & body.keys() else ConversationLine
    )
    try:
        return form.model_validate(body).record()
    except ValidationError as error:
        raise BadLine(_problem(error, body)) from None


def _body(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"the line is over {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise BadLine("the line is not in UTF-8") from None
    try:
        check_json(line, MAX_LINE_VALUES, MAX_LINE_DEPTH, "the line")
        body = json.loads(text, parse_constant=_refuse_constant)
    except InvalidRequest as error:
        raise BadLine(error.message) from None
    except ValueError:
        raise BadLine("the line is not valid JSON") from None
    if not isinstance(body, dict):
        raise BadLine("the line must be a JSON object")
    return body


def _refuse_constant(name: str) -> None:
    """Refuses NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(name)


def _check_calls(place: tuple[str, ...], turns: Sequence[Turn], asked: set[str]) -> None:
    """Checks the calls of tools, and that each result has its call. `asked` has the ids of earlier calls.

    Raises: ValidationError.
    """
    try:
        check_arguments(turns)
    except ValidationError as error:
        first = error.errors()[0]
        raise refused_at((*place, *first["loc"][1:]), first["msg"]) from None
    for index, turn in enumerate(turns):
        if isinstance(turn, AnswerTurn):
            asked |= {call.id for call in turn.tool_calls or ()}
        elif isinstance(turn, ResultTurn) and turn.tool_call_id not in asked:
            raise refused_at((*place, index, "tool_call_id"), "there is no earlier call with this id")


def _messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    return tuple(map(_message, turns))


def _message(turn: Turn) -> Message:
    match turn:
        case AnswerTurn():
            content = _text(turn.content) if turn.content is not None else turn.refusal or ""
            calls = tuple(
                ToolCall(
                    id=call.id,
                    function=CalledFunction(
                        name=call.function.name, arguments=json.loads(call.function.arguments.strip() or "{}")
                    ),
                )
                for call in turn.tool_calls or ()
            )
            is_trained = not isinstance(turn, WeightedTurn) or turn.weight == 1
            return Message(
                role=turn.role, content=content, name=turn.name, tool_calls=calls, is_trained=is_trained
            )
        case ResultTurn():
            return Message(role=turn.role, content=_text(turn.content), tool_call_id=turn.tool_call_id)
        case GivenTurn():
            role = "system" if turn.role == "developer" else turn.role
            return Message(role=role, content=_text(turn.content), name=turn.name)


def _text(content: Content) -> str:
    """Returns the text of a message. Its parts are joined as vLLM joins those of a request."""
    if isinstance(content, str):
        return content
    return "\n".join(part.text if part.type == "text" else part.refusal or "" for part in content)


def _problem(error: ValidationError, body: dict[str, Any]) -> str:
    """Returns the error that is deepest inside the line, with its place."""
    found = [(_place(details, body), details["msg"]) for details in error.errors(include_url=False)]
    place, message = max(found, key=lambda pair: len(pair[0]))
    message = message.removeprefix("Value error, ")
    text = f"{'.'.join(map(str, place))}: {message}" if place else message
    return text[:MAX_PROBLEM_CHARACTERS].encode(errors="replace").decode()


def _place(details: ErrorDetails, body: Any) -> list[int | str]:
    """Returns the path of a field. A location also has the names of types, which are not in the body."""
    path: list[int | str] = []
    for part in details["loc"]:
        is_index = isinstance(body, list) and isinstance(part, int) and part < len(body)
        if is_index or (isinstance(body, dict) and part in body):
            path.append(part)
            body = body[part]
    if details["type"] == "missing":
        path.append(details["loc"][-1])
    return path
