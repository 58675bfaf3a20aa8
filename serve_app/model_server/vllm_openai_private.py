"""The names of vLLM's OpenAI layer, parsers and renderers that we use. vLLM does not promise to keep them.

All other files take these names from here. `tests/process/serve_app/model_server/test_vllm_openai_private.py`
compares each of them with the installed vLLM. They are not in `model_server.vllm_private`, because the
engine's own processes do not load this layer.
"""

from collections.abc import Callable
from typing import Any

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    FunctionCall,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.parser.abstract_parser import DelegatingParser
from vllm.renderers.chat_utils import make_tool_call_id
from vllm.renderers.hf import HfRenderer, safe_apply_chat_template
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser
from vllm.utils.async_utils import make_async

__all__ = [
    "ChatCompletionRequest",
    "CompletionRequest",
    "DelegatingParser",
    "DeltaFunctionCall",
    "DeltaMessage",
    "DeltaToolCall",
    "ErrorResponse",
    "FunctionCall",
    "Hermes2ProToolParser",
    "HfRenderer",
    "make_tool_call_id",
    "safe_apply_chat_template",
    "set_sent",
    "set_template_function",
]

OBJECTS = {
    "vllm.entrypoints.openai.chat_completion.protocol.ChatCompletionRequest": ("to_sampling_params", "stop"),
    "vllm.entrypoints.openai.completion.protocol.CompletionRequest": ("to_sampling_params", "stop"),
    "vllm.parser.abstract_parser.DelegatingParser": (
        "__init__",
        "_append_unstreamed_tool_args",
        "_extract_tool_calls",
        "_stream_state",
        "_tool_parser",
        "model_tokenizer",
        "parse_delta",
        "tool_parser_cls",
    ),
    "vllm.parser.abstract_parser.StreamState": ("previous_text", "reasoning_ended"),
    "vllm.renderers.hf.HfRenderer": (
        "_apply_chat_template_async",
        "_executor",
        "get_tokenizer",
        "render_messages_async",
    ),
    "vllm.tool_parsers.hermes_tool_parser.Hermes2ProToolParser": (
        "__init__",
        "_sent_content_idx",
        "engine_based_streaming",
        "extract_tool_calls_streaming",
    ),
}
"""The names that we override, replace or read on vLLM's objects.

`model_server.call_parser` extends DelegatingParser, `model_server.engine_requests` the requests, and
`vllm_patches.plain_text` changes the renderer.
"""


def set_sent(parser: Any, num_characters: int) -> int:
    """Tells a Hermes2ProToolParser how much of the text was sent. Returns how much that was before."""
    before: int = parser._sent_content_idx
    parser._sent_content_idx = num_characters
    return before


def set_template_function(renderer: Any, apply: Callable[..., Any]) -> bool:
    """Lets `renderer` apply the chat template with `apply`, in the thread that it has for this.

    Returns False, and changes nothing, if `renderer` is not vLLM's renderer for templates of Hugging Face.
    """
    if not isinstance(renderer, HfRenderer) or not hasattr(renderer, "_apply_chat_template_async"):
        return False
    renderer._apply_chat_template_async = make_async(apply, executor=renderer._executor)
    return True
