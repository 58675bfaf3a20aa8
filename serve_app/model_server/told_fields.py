"""Which fields of vLLM's answers a client is told: those that OpenAI's have, and the tokens where asked for.

Streamed chunks come as text, one for each token, and are not read as JSON for this: a field's name in quotes
can be nothing else there, because quotes inside of a text are escaped.
"""

import re
from typing import Any

from serve_app.model_server.calls import OpenAICall

NEVER = {"prompt_logprobs", "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics"}
NEVER_OF_CHOICE = {"routed_experts", "prompt_logprobs"}
TOKENS = {"prompt_token_ids", "token_ids", "stop_reason"}
"""Told where `return_token_ids` asks for them."""

NO_TEXT = ',"prompt_text":null'
NO_TOKENS = re.compile(
    r',"(?:prompt_text|prompt_token_ids|token_ids|stop_reason)":(?:null|-?\d+|"(?:[^"\\]|\\.)*")'
)


def answer_told(answer: Any, call: OpenAICall) -> str:
    """vLLM's answer as JSON."""
    tokens: set[str] = set() if _asks_for_tokens(call) else TOKENS
    choices = {"__all__": NEVER_OF_CHOICE | tokens}
    return str(answer.model_dump_json(exclude={**dict.fromkeys(NEVER | tokens, True), "choices": choices}))


def event_told(event: str, call: OpenAICall) -> str:
    """vLLM's event of a stream."""
    return event.replace(NO_TEXT, "") if _asks_for_tokens(call) else NO_TOKENS.sub("", event)


def _asks_for_tokens(call: OpenAICall) -> bool:
    return bool(call.body.get("return_token_ids"))
