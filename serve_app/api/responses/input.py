"""Translates a request of the Responses API into the chat request that answers it.

instructions, input items  ->  messages        function_call items join the assistant's message before them
tools, text, reasoning...  ->  the fields of chat
an error of chat's         ->  the same, about a field of this request
"""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from registry.errors import InvalidRequest, TigerError
from serve_app.wire.openai import ChatCompletionRequest
from serve_app.wire.responses import (
    FunctionCallItem,
    FunctionCallOutputItem,
    FunctionChoice,
    MessageItem,
    ReasoningItem,
    ResponsesRequest,
    text_of,
)

FIELDS = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.json_schema.schema": "text.format.schema",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
    "n": "max_output_tokens",
    "messages": "input",
}
"""The field of a Responses request for each field of a chat request that an error can name.

A response is one answer. If it is too large, its length is the reason, so `n` becomes `max_output_tokens`.
"""
MESSAGE = re.compile(r"^messages\.(\d+)\b")
TOOL = re.compile(r"^tools\.(\d+)\.function\b")


@dataclass(frozen=True)
class ChatForm:
    """A chat request and where its messages come from.

    `sources` has the index of the first input item of each message of `request`; None: the instructions.
    """

    request: ChatCompletionRequest
    sources: tuple[int | None, ...]

    def in_words_of_the_client(self, error: TigerError) -> TigerError:
        """Returns the error with a `param` that names the place in the client's own request."""
        param = self._param(error.param) if error.param is not None else None
        error.args = (error.message, param, *error.args[2:])
        return error

    def _param(self, param: str) -> str:
        if found := MESSAGE.match(param):
            index = int(found[1])
            source = self.sources[index] if index < len(self.sources) else None
            return "instructions" if source is None else f"input.{source}"
        return FIELDS.get(param, TOOL.sub(r"tools.\1", param))


def chat_form(request: ResponsesRequest) -> ChatForm:
    """Returns the chat request. Raises: InvalidRequest, such as for an input without any message."""
    sources, messages = _messages(request)
    fields = {"messages": messages, **_options(request), **_tools(request)}
    try:
        chat = ChatCompletionRequest(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        if not messages:
            raise InvalidRequest("the input has no message to answer", "input") from None
        first = error.errors()[0]
        place = sources[int(first["loc"][1])] if first["loc"][:1] == ("messages",) else None
        raise InvalidRequest(str(first["msg"]), "input" if place is None else f"input.{place}") from None
    return ChatForm(chat, tuple(sources))


def _messages(request: ResponsesRequest) -> tuple[list[int | None], list[dict[str, Any]]]:
    """Returns messages and their sources. System messages at the beginning are joined to one.

    Some chat templates show only one system message.
    """
    found: list[tuple[int | None, dict[str, Any]]] = []
    if request.instructions:
        found.append((None, {"role": "system", "content": request.instructions}))
    if isinstance(request.input, str):
        found.append((0, {"role": "user", "content": request.input}))
        return _separate(found)
    for index, item in enumerate(request.input):
        if isinstance(item, MessageItem):
            role = "system" if item.role == "developer" else item.role
            text = text_of(item.content)
            if role == "system" and found and all(message["role"] == "system" for _, message in found):
                found[-1][1]["content"] += f"\n\n{text}"
            else:
                found.append((index, {"role": role, "content": text}))
        elif isinstance(item, FunctionCallItem):
            if not found or found[-1][1]["role"] != "assistant":
                found.append((index, {"role": "assistant"}))
            found[-1][1].setdefault("tool_calls", []).append(_call(item))
        elif isinstance(item, FunctionCallOutputItem):
            result = {"role": "tool", "tool_call_id": item.call_id, "content": text_of(item.output)}
            found.append((index, result))
        else:
            assert isinstance(item, ReasoningItem)
    return _separate(found)


def _separate(
    found: list[tuple[int | None, dict[str, Any]]],
) -> tuple[list[int | None], list[dict[str, Any]]]:
    return [source for source, _ in found], [message for _, message in found]


def _call(item: FunctionCallItem) -> dict[str, Any]:
    function = {"name": item.name, "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _options(request: ResponsesRequest) -> dict[str, Any]:
    return {
        "model": request.model,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_completion_tokens": request.max_output_tokens,
        "logprobs": True if request.wants_log_probs else None,
        "top_logprobs": request.top_logprobs if request.wants_log_probs else None,
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "response_format": _response_format(request),
        "stream": request.stream,
        "stream_options": {"include_usage": True} if request.stream else None,
    }


def _response_format(request: ResponsesRequest) -> dict[str, Any] | None:
    if request.text is None or request.text.format is None:
        return None
    form = request.text.format.model_dump(by_alias=True, exclude_none=True)
    if form["type"] != "json_schema":
        return form
    del form["type"]
    return {"type": "json_schema", "json_schema": form}


def _tools(request: ResponsesRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    tools = [tool.model_dump(exclude={"type"}, exclude_none=True) for tool in request.tools]
    choice = request.tool_choice
    if isinstance(choice, FunctionChoice):
        choice = {"type": "function", "function": {"name": choice.name}}  # type: ignore[assignment]
    return {
        "tools": [{"type": "function", "function": tool} for tool in tools],
        "tool_choice": choice,
        "parallel_tool_calls": request.parallel_tool_calls,
    }
