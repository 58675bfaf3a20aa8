"""The turns of a conversation in the form of OpenAI's clients.

Clients send back messages that they got from this service or from others. Therefore unknown fields are
ignored.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.errors import InvalidRequest
from serve_app.wire.base import Text
from serve_app.wire.json_bounds import check_json, exact_num_values
from serve_app.wire.openai_formats import FunctionName
from serve_app.wire.refused_fields import refused_at

MAX_TOOL_CALLS = 128
MAX_PARTS = 1024
MAX_ARGUMENT_VALUES = 16_384
"""The largest number of JSON values in the arguments of all tool calls of a conversation."""
MAX_ARGUMENT_DEPTH = 64

Label = Annotated[str, Field(max_length=512)]
"""A name that a client gives to a tool call or to a speaker."""


class Lenient(BaseModel):
    """A part of a conversation. Unknown fields, such as those of other services, are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, frozen=True)


class TextPart(Lenient):
    type: Literal["text", "refusal"]
    text: Text = ""
    refusal: Text | None = Field(None, description="replaces text if the type is `refusal`")


Content = Text | Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MAX_PARTS)]


class CalledFunction(Lenient):
    name: FunctionName
    arguments: Text = Field(description="JSON object as a text")


class ToolCall(Lenient):
    id: Label
    type: Literal["function"] = "function"
    function: CalledFunction


class GivenMessage(Lenient):
    """A message of the system, the developer or the user."""

    role: Literal["system", "developer", "user"]
    content: Content
    name: Label | None = None


class AssistantTurn(Lenient):
    """A message of the model, which may be empty. Its reasoning is ignored."""

    role: Literal["assistant"]
    content: Content | None = None
    refusal: Text | None = Field(None, description="text of the model that replaces content")
    name: Label | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_TOOL_CALLS)] | None = Field(
        None, description="calls of tools by the model"
    )


class ToolResult(Lenient):
    role: Literal["tool"]
    content: Content
    tool_call_id: Label = Field(description="`id` of the call that has this result")


ChatTurn = Annotated[GivenMessage | AssistantTurn | ToolResult, Field(discriminator="role")]


def check_arguments(turns: Sequence[GivenMessage | AssistantTurn | ToolResult]) -> None:
    """Checks that the arguments of all tool calls are JSON objects.

    The cost for all calls together is bounded.
    Raises: pydantic.ValidationError, whose location begins with `messages`.
    """
    left = MAX_ARGUMENT_VALUES
    for index, turn in enumerate(turns):
        for number, call in enumerate(turn.tool_calls or () if isinstance(turn, AssistantTurn) else ()):
            place = ("messages", index, "tool_calls", number, "function", "arguments")
            left -= num_argument_values(call.function.arguments, left, place)


def num_argument_values(arguments: str, max_values: int, place: tuple[str | int, ...]) -> int:
    """Checks that the arguments of a tool call are a JSON object; returns the number of its values.

    Raises: pydantic.ValidationError, whose location is `place`.
    """
    text = arguments.encode(errors="replace")
    try:
        check_json(text, max_values, MAX_ARGUMENT_DEPTH, "the arguments of all calls together")
        is_object = not text.strip() or isinstance(json.loads(text), dict)
    except InvalidRequest as error:
        raise refused_at(place, error.message) from None
    except ValueError:
        is_object = False
    if not is_object:
        raise refused_at(place, "the arguments must be a JSON object")
    return exact_num_values(text)


def num_characters(turn: GivenMessage | AssistantTurn | ToolResult) -> int:
    said: list[str | None] = []
    if isinstance(turn, AssistantTurn):
        said += [turn.refusal, *(call.function.arguments for call in turn.tool_calls or ())]
    if isinstance(turn.content, list):
        said += [text for part in turn.content for text in (part.text, part.refusal)]
    else:
        said.append(turn.content)
    return sum(len(text or "") for text in said)
