"""Checks requests with tools against the chat template, and corrects the finish reasons of their answers.

request  ->  check_tools           refuses tools that the chat template would not show to the model
answer   ->  settle, settle_event  the reason is `tool_calls` only if the model ended the answer itself
"""

import json
from collections.abc import Mapping
from typing import Any

from registry.errors import InvalidRequest
from registry.json_text import compact_json
from training.chat_template import ToolSupport

FINISHED_BY_CALLS = '"finish_reason":"tool_calls"'
"""A part of an event of a stream. It cannot be text of the model, in which quotes are escaped."""


def check_tools(body: Mapping[str, Any], support: ToolSupport, model: str) -> None:
    """Raises: InvalidRequest, if the chat template drops tools, tool calls or their results."""
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
    """Corrects the finish reasons of vLLM's answer. `finish_reasons` are those of the engine, by sample."""
    for choice in answer.choices:
        if choice.finish_reason == "tool_calls":
            reason = finish_reasons.get(choice.index, "stop")
            is_by_itself = reason == "stop" and not isinstance(choice.stop_reason, str)
            if not is_by_itself or not choice.message.tool_calls:
                choice.finish_reason = reason


def settle_event(event: str) -> str:
    """Corrects the finish reason of an event of a stream. There vLLM itself reports `length`."""
    if FINISHED_BY_CALLS not in event:
        return event
    chunk = json.loads(event.removeprefix("data: "))
    for choice in chunk["choices"]:
        if choice["finish_reason"] == "tool_calls" and isinstance(choice.get("stop_reason"), str):
            choice["finish_reason"] = "stop"
    return f"data: {compact_json(chunk)}\n\n"
