"""The turns of a conversation, as OpenAI's clients send them.

Clients send back what they got, from here or from other services, so what is not named here is left out.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.errors import InvalidRequest
from serve_app.wire.base import Text
from serve_app.wire.json_bounds import check_json, num_values
from serve_app.wire.openai_formats import FunctionName
from serve_app.wire.refused_fields import refused_at

MAX_TOOL_CALLS = 128
MAX_PARTS = 1024
MAX_ARGUMENT_VALUES = 16_384
"""In the arguments of all tool calls of a conversation."""
MAX_ARGUMENT_DEPTH = 64

Label = Annotated[str, Field(max_length=512)]
"""What a client calls something by: a tool call, a speaker."""


class Lenient(BaseModel):
    """A part of a conversation: clients send back what they got, with the fields of other services in it."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, frozen=True)


class TextPart(Lenient):
    type: Literal["text", "refusal"]
    text: Text = ""
    refusal: Text | None = Field(None, description="instead of text, when the type is `refusal`")


Content = Text | Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MAX_PARTS)]


class CalledFunction(Lenient):
    name: FunctionName
    arguments: Text = Field(description="a JSON object, as text")


class ToolCall(Lenient):
    id: Label
    type: Literal["function"] = "function"
    function: CalledFunction


class GivenMessage(Lenient):
    """From the system, the developer or the user."""

    role: Literal["system", "developer", "user"]
    content: Content
    name: Label | None = None


class AssistantTurn(Lenient):
    """From the model, which may have said nothing; what it thought meanwhile is left out."""

    role: Literal["assistant"]
    content: Content | None = None
    refusal: Text | None = Field(None, description="what it said instead of content")
    name: Label | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_TOOL_CALLS)] | None = Field(
        None, description="the tools that the model asked for"
    )


class ToolResult(Lenient):
    role: Literal["tool"]
    content: Content
    tool_call_id: Label = Field(description="the `id` of the call that this is the result of")


ChatTurn = Annotated[GivenMessage | AssistantTurn | ToolResult, Field(discriminator="role")]


def check_arguments(turns: Sequence[GivenMessage | AssistantTurn | ToolResult]) -> None:
    """See that what tools were called with can be parsed, at a cost that is bounded for all calls together.

    Raises: pydantic.ValidationError, whose location begins with `messages`.
    """
    left = MAX_ARGUMENT_VALUES
    for index, turn in enumerate(turns):
        for number, call in enumerate(turn.tool_calls or () if isinstance(turn, AssistantTurn) else ()):
            place = ("messages", index, "tool_calls", number, "function", "arguments")
            text = call.function.arguments.encode(errors="replace")
            try:
                check_json(text, left, MAX_ARGUMENT_DEPTH, "the arguments of all calls together")
                left -= num_values(text)
                is_object = not text.strip() or isinstance(json.loads(text), dict)
            except InvalidRequest as error:
                raise refused_at(place, error.message) from None
            except ValueError:
                is_object = False
            if not is_object:
                raise refused_at(place, "the arguments are no JSON object")


def num_characters(turn: GivenMessage | AssistantTurn | ToolResult) -> int:
    said: list[str | None] = []
    if isinstance(turn, AssistantTurn):
        said += [turn.refusal, *(call.function.arguments for call in turn.tool_calls or ())]
    if isinstance(turn.content, list):
        said += [text for part in turn.content for text in (part.text, part.refusal)]
    else:
        said.append(turn.content)
    return sum(len(text or "") for text in said)
