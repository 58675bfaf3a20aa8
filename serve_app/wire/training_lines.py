"""The lines of training files in the forms of OpenAI's API, and the records that they become.

    {"messages": [...], "tools": [...]}                                           ->  Example
    {"input": {...}, "preferred_output": [...], "non_preferred_output": [...]}    ->  Pair

The messages are those of a training (wire.training_turns). A field whose value is null counts as missing,
because programs that save answers write such fields.
"""

import json
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from registry.errors import InvalidRequest
from registry.records import Example, Pair
from serve_app.wire.base import Request
from serve_app.wire.json_bounds import check_json
from serve_app.wire.refused_fields import without_refused
from serve_app.wire.training_calls import CallChecks
from serve_app.wire.training_turns import (
    ExampleConversation,
    Prompt,
    ResponseTurns,
    Tools,
    records_of,
    tool_records,
)

MAX_LINE_BYTES = 4 * 2**20
MAX_LINE_VALUES = 2**16
MAX_LINE_DEPTH = 100
MAX_PROBLEM_CHARACTERS = 300
OF_PREFERENCES = frozenset({"input", "preferred_output", "non_preferred_output"})
"""The fields of which a conversation has none."""
WITH_MESSAGES = OF_PREFERENCES | {"messages"}


class BadLine(Exception):
    """A line that teaches nothing. `args[0]` says why, without the number of the line."""


class WithTools(Request):
    """The fields that a conversation has beside its messages."""

    tools: Tools | None = None
    parallel_tool_calls: bool | None = Field(None, description="no effect")

    @model_validator(mode="before")
    @classmethod
    def _without_refused(cls, body: Any) -> Any:
        return without_refused(body, cls.model_fields)


class ConversationLine(WithTools):
    """A conversation whose messages of the assistant are imitated."""

    messages: ExampleConversation

    @model_validator(mode="after")
    def _calls_are_valid(self) -> Self:
        CallChecks().check(("messages",), self.messages)
        return self

    def record(self) -> Example:
        return Example(messages=records_of(self.messages), tools=tool_records(self.tools))


class PreferenceInput(WithTools):
    messages: Prompt


class PreferenceLine(Request):
    """A prompt and two responses, of which the first is preferred."""

    input: PreferenceInput
    preferred_output: ResponseTurns
    non_preferred_output: ResponseTurns

    @model_validator(mode="after")
    def _calls_are_valid(self) -> Self:
        checks = CallChecks()
        asked = checks.check(("input", "messages"), self.input.messages)
        checks.check(("preferred_output",), self.preferred_output, asked)
        checks.check(("non_preferred_output",), self.non_preferred_output, asked)
        return self

    def record(self) -> Pair:
        return Pair(
            messages=records_of(self.input.messages),
            preferred=records_of(self.preferred_output),
            rejected=records_of(self.non_preferred_output),
            tools=tool_records(self.input.tools),
        )


def parse_line(line: bytes) -> ConversationLine | PreferenceLine:
    """Returns a line whose `record` can be made. Raises: BadLine."""
    body = _body(line)
    form: type[ConversationLine | PreferenceLine] = (
        PreferenceLine if OF_PREFERENCES & body.keys() else ConversationLine
    )
    try:
        return form.model_validate(body)
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
        body = _without_nulls(json.loads(text, parse_constant=_refuse_constant))
    except InvalidRequest as error:
        raise BadLine(error.message) from None
    except ValueError:
        raise BadLine("the line is not valid JSON") from None
    if not isinstance(body, dict):
        raise BadLine("the line must be a JSON object")
    return body


def _without_nulls(value: Any) -> Any:
    """Leaves out the fields of a line, of its input and of its messages whose value is null."""
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_nulls(field) if name in WITH_MESSAGES else field
        for name, field in value.items()
        if field is not None
    }


def _refuse_constant(name: str) -> None:
    """Refuses NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(name)


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
