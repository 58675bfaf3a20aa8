"""Removes fields from vLLM's answers. A client gets OpenAI's fields, and the tokens if it asks for them.

Streamed chunks are texts, one for each token, and are not parsed as JSON for this. A field's name in quotes
cannot be anything else in them, because quotes inside of a JSON string are escaped.
"""

import re
from typing import Any

from serve_app.model_server.calls import OpenAICall

NEVER = {"prompt_logprobs", "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics"}
NEVER_OF_CHOICE = {"routed_experts", "prompt_logprobs"}
TOKENS = {"prompt_token_ids", "token_ids", "stop_reason"}
"""Fields that a client gets only with `return_token_ids`."""

NO_TEXT = ',"prompt_text":null'
NO_TOKENS = re.compile(
    r',"(?:prompt_text|prompt_token_ids|token_ids|stop_reason)":(?:null|-?\d+|"(?:[^"\\]|\\.)*")'
)


def answer_for_client(answer: Any, call: OpenAICall) -> str:
    """Returns vLLM's answer as JSON, without the fields that the client does not get."""
    tokens: set[str] = set() if _asks_for_tokens(call) else TOKENS
    choices = {"__all__": NEVER_OF_CHOICE | tokens}
    return str(answer.model_dump_json(exclude={**dict.fromkeys(NEVER | tokens, True), "choices": choices}))


def event_for_client(event: str, call: OpenAICall) -> str:
    """Returns an event of vLLM's stream, without the fields that the client does not get."""
    return event.replace(NO_TEXT, "") if _asks_for_tokens(call) else NO_TOKENS.sub("", event)


def _asks_for_tokens(call: OpenAICall) -> bool:
    return bool(call.body.get("return_token_ids"))
