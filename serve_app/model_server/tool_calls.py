"""What a request with tools needs of the chat template, and why the answer to it ended.

request  ->  check_tools           refused where the chat template would not show the model the tools
answer   ->  settle, settle_event  `tool_calls` is the reason only where the model ended by itself
"""

import json
from collections.abc import Mapping
from typing import Any

from registry.errors import InvalidRequest
from training.chat_template import ToolSupport

FINISHED_BY_CALLS = '"finish_reason":"tool_calls"'
"""In an event of a stream; in a text of the model the quotes would be escaped."""


def check_tools(body: Mapping[str, Any], support: ToolSupport, model: str) -> None:
    """Raises: InvalidRequest, where the chat template drops what the model is to see of the tools."""
    if body.get("tools") and not support.tools:
        raise InvalidRequest(f"the chat template of {model} does not show tools to the model", "tools")
    for index, message in enumerate(body.get("messages", ())):
        if message.get("tool_calls") and not support.calls:
            raise InvalidRequest(
                f"the chat template of {model} does not show tool calls to the model",
                f"messages.{index}.tool_calls",
            )
        if message.get("role") == "tool" and not support.results:
            raise InvalidRequest(
                f"the chat template of {model} does not show the results of tools to the model",
                f"messages.{index}.role",
            )


def settle(answer: Any, finish_reasons: Mapping[int, str]) -> None:
    """Put the finish reasons of vLLM's answer right; `finish_reasons` are the engine's, by sample."""
    for choice in answer.choices:
        if choice.finish_reason == "tool_calls":
            reason = finish_reasons.get(choice.index, "stop")
            is_by_itself = reason == "stop" and not isinstance(choice.stop_reason, str)
            if not is_by_itself or not choice.message.tool_calls:
                choice.finish_reason = reason


def settle_event(event: str) -> str:
    """The same for an event of a stream, where vLLM itself knows of `length`."""
    if FINISHED_BY_CALLS not in event:
        return event
    chunk = json.loads(event.removeprefix("data: "))
    for choice in chunk["choices"]:
        if choice["finish_reason"] == "tool_calls" and isinstance(choice.get("stop_reason"), str):
            choice["finish_reason"] = "stop"
    return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"
