"""The turns of the conversations that a training learns: in the form of OpenAI's API, but strict.

A conversation that is generated from may have fields of other services, which are ignored. In a training such
a field could be one that the client expects to have an effect, so it is refused.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from registry.records import CalledFunction, Message, ToolCall
from serve_app.wire.base import Request, Text
from serve_app.wire.generate import MAX_MESSAGES
from serve_app.wire.openai_formats import FunctionName, SizeOfTools, Tool
from serve_app.wire.openai_turns import MAX_PARTS, MAX_TOOL_CALLS, Label
from serve_app.wire.refused_fields import refused_at

MAX_TOOLS = 128


class TextPart(Request):
    type: Literal["text"]
    text: Text


Content = Text | Annotated[list[TextPart], Field(fail_fast=True, min_length=1, max_length=MAX_PARTS)]


def text_of(content: Content | None) -> str:
    """Returns the text of a content. Its parts are joined with line ends, as vLLM joins them."""
    if isinstance(content, list):
        return "\n".join(part.text for part in content if part.text)
    return content or ""


def arguments_of(text: str) -> dict[str, Any]:
    """Returns the arguments of a call. An empty text means no arguments, as in vLLM.

    Raises: ValueError: it is no JSON, or has a number or a text that JSON in UTF-8 cannot have.
    """
    values: dict[str, Any] = json.loads(text) if text.strip() else {}
    json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
    return values


class CalledFunctionText(Request):
    name: FunctionName
    arguments: Text = Field(description="JSON object as a text")


class CalledTool(Request):
    id: Label
    type: Literal["function"] = "function"
    function: CalledFunctionText

    def record(self) -> ToolCall:
        values = arguments_of(self.function.arguments)
        return ToolCall(id=self.id, function=CalledFunction(name=self.function.name, arguments=values))


class SystemTurn(Request):
    role: Literal["system", "developer"] = Field(description="`developer` is a newer name of `system`")
    content: Content
    name: Label | None = None

    def record(self) -> Message:
        return Message(role="system", content=text_of(self.content), name=self.name)


class UserTurn(Request):
    role: Literal["user"]
    content: Content
    name: Label | None = None

    def record(self) -> Message:
        return Message(role="user", content=text_of(self.content), name=self.name)


class AssistantTurn(Request):
    """A turn of the model: a text, calls of tools, or both."""

    role: Literal["assistant"]
    content: Content | None = None
    refusal: Text | None = Field(None, description="text of the model that replaces content")
    reasoning: Text | None = Field(
        None, description="no effect; reasoning that is to be learned stands in content"
    )
    reasoning_content: Text | None = Field(None, description="older name of reasoning")
    name: Label | None = None
    tool_calls: Annotated[list[CalledTool], Field(fail_fast=True, max_length=MAX_TOOL_CALLS)] | None = Field(
        None, description="calls of tools by the model"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.refusal is None and not self.tool_calls:
            raise refused_at(("content",), "a message of the assistant needs content or tool_calls")
        return self

    def record(self) -> Message:
        return Message(
            role="assistant",
            content=text_of(self.content) if self.content is not None else self.refusal or "",
            name=self.name,
            tool_calls=tuple(call.record() for call in self.tool_calls or ()),
        )


class LearnedTurn(AssistantTurn):
    """A turn of the model that is learned, unless its weight is 0."""

    weight: Annotated[int, Field(ge=0, le=1)] | None = Field(
        None, description="0: nothing is learned about this turn; default: 1"
    )

    def record(self) -> Message:
        return super().record().model_copy(update={"is_trained": self.weight != 0})


class ToolTurn(Request):
    """The result of a call of a tool."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Label = Field(description="`id` of the call that has this result")

    def record(self) -> Message:
        return Message(role="tool", content=text_of(self.content), tool_call_id=self.tool_call_id)


GivenTurn = Annotated[SystemTurn | UserTurn | AssistantTurn | ToolTurn, Field(discriminator="role")]
ExampleTurn = Annotated[SystemTurn | UserTurn | LearnedTurn | ToolTurn, Field(discriminator="role")]
ResponseTurn = Annotated[UserTurn | LearnedTurn | ToolTurn, Field(discriminator="role")]
Turn = SystemTurn | UserTurn | AssistantTurn | LearnedTurn | ToolTurn


def _check_system(turns: Sequence[Turn]) -> None:
    if any(isinstance(turn, SystemTurn) for turn in turns[1:]):
        raise ValueError("a system message must be the first message")


def _valid_prompt(turns: list[GivenTurn]) -> list[GivenTurn]:
    _check_system(turns)
    if turns[-1].role not in ("user", "tool"):
        raise ValueError("the last message must be the user's, or the result of a tool")
    return turns


def _valid_example(turns: list[ExampleTurn]) -> list[ExampleTurn]:
    _check_system(turns)
    _check_learned(turns)
    return turns


def _valid_response(turns: list[ResponseTurn]) -> list[ResponseTurn]:
    if turns[0].role != "assistant":
        raise ValueError("the first message must be the assistant's")
    _check_learned(turns)
    return turns


def _check_learned(turns: Sequence[Turn]) -> None:
    own = [turn for turn in turns if isinstance(turn, LearnedTurn)]
    if not own:
        raise ValueError("there is no message of the assistant to learn")
    if all(turn.weight == 0 for turn in own):
        raise ValueError("all messages of the assistant have weight 0, so there is nothing to learn")
    if turns[-1].role != "assistant":
        raise ValueError("the last message must be the assistant's")


_Length = Field(
    fail_fast=True,
    min_length=1,
    max_length=MAX_MESSAGES,
    description="turns of the roles `system`, `user`, `assistant` and `tool`, in OpenAI's form; "
    "a system message can only be the first",
)
Prompt = Annotated[list[GivenTurn], _Length, AfterValidator(_valid_prompt)]
ExampleConversation = Annotated[list[ExampleTurn], _Length, AfterValidator(_valid_example)]
ResponseTurns = Annotated[
    list[ResponseTurn],
    Field(
        fail_fast=True,
        min_length=1,
        max_length=MAX_MESSAGES,
        description="turns that follow the prompt, the first and the last one of the assistant; "
        "only the turns of the assistant are learned",
    ),
    AfterValidator(_valid_response),
]
Side = Annotated[
    Annotated[Text, Tag("text")] | Annotated[ResponseTurns, Tag("turns")],
    Discriminator(lambda value: "turns" if isinstance(value, list) else "text"),
    Field(description="response to the messages: a text, or turns of the model and results of its tools"),
]
Tools = Annotated[
    list[Tool],
    Field(
        fail_fast=True, max_length=MAX_TOOLS, description="tools that the model may call in this conversation"
    ),
    SizeOfTools,
]


def side_turns(side: Side) -> list[ResponseTurn]:
    """Returns the turns of one side of a pair."""
    if isinstance(side, str):
        return [LearnedTurn(role="assistant", content=side)]
    return side


def records_of(turns: Sequence[Turn]) -> tuple[Message, ...]:
    return tuple(turn.record() for turn in turns)


def tool_records(tools: Sequence[Tool] | None) -> tuple[dict[str, object], ...]:
    return tuple(tool.model_dump(exclude_none=True) for tool in tools or ())
