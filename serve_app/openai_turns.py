"""The turns of a conversation, as OpenAI's clients send them.

Clients send back what they got, from here or from other services, so what is not named here is left out.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve_app.openai_formats import FunctionName
from serve_app.schemas import Text

MAX_TOOL_CALLS = 128
MAX_PARTS = 1024

Label = Annotated[str, Field(max_length=512)]
"""What a client calls something by: a tool call, a speaker."""


class Lenient(BaseModel):
    """A part of a conversation: clients send back what they got, with the fields of other services in it."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, frozen=True)


class TextPart(Lenient):
    type: Literal["text", "refusal"]
    text: Text = ""
    refusal: Text | None = Field(None, description="instead of text, when the type is `refusal`")


def num_characters(content: str | list[TextPart] | None) -> int:
    if content is None or isinstance(content, str):
        return len(content or "")
    return sum(len(part.text) + len(part.refusal or "") for part in content)


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
    role: Literal["assistant"]
    content: Content | None = None
    name: Label | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_TOOL_CALLS)] | None = Field(
        None, description="the tools that the model asked for"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("an assistant's message has content or tool_calls")
        return self


class ToolResult(Lenient):
    role: Literal["tool"]
    content: Content
    tool_call_id: Label = Field(description="the `id` of the call that this is the result of")


ChatTurn = Annotated[GivenMessage | AssistantTurn | ToolResult, Field(discriminator="role")]
