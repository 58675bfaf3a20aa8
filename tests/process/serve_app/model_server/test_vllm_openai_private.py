"""The names of vLLM's OpenAI layer that we lean on are in the installed vLLM, in the shapes that we use."""

import pytest

from serve_app.model_server import engine_requests, vllm_openai_private
from serve_app.model_server.call_parser import WholeCalls
from tests.support.shapes import ATTRIBUTE, Shapes, cases_of, check_names, check_overrides, check_shape

SEAM = "serve_app/model_server/vllm_openai_private.py"
SHAPES: Shapes = {
    "vllm.entrypoints.generate.base.protocol": {
        "DeltaFunctionCall": ATTRIBUTE,
        "DeltaMessage": ATTRIBUTE,
        "DeltaToolCall": ATTRIBUTE,
        "FunctionCall": ATTRIBUTE,
    },
    "vllm.entrypoints.openai.chat_completion.protocol.ChatCompletionRequest": {
        "stop": ATTRIBUTE,
        "to_sampling_params": "self, max_tokens, default_sampling_params",
    },
    "vllm.entrypoints.openai.completion.protocol.CompletionRequest": {
        "stop": ATTRIBUTE,
        "to_sampling_params": "self, max_tokens, default_sampling_params=",
    },
    "vllm.entrypoints.serve.engine.protocol": {
        "ErrorResponse": ATTRIBUTE,
    },
    "vllm.parser.abstract_parser.DelegatingParser": {
        "__init__": "self, tokenizer, tools=, *args, model_config=, **kwargs",
        "_append_unstreamed_tool_args": "self, delta_message",
        "_extract_tool_calls": "self, content, request, enable_auto_tools=",
        "_stream_state": ATTRIBUTE,
        "_tool_parser": ATTRIBUTE,
        "model_tokenizer": ATTRIBUTE,
        "parse_delta": "self, delta_text, delta_token_ids, request, prompt_token_ids=, *, finished",
        "tool_parser_cls": ATTRIBUTE,
    },
    "vllm.parser.abstract_parser.StreamState": {
        "previous_text": ATTRIBUTE,
        "reasoning_ended": ATTRIBUTE,
    },
    "vllm.renderers.chat_utils": {
        "make_tool_call_id": "id_type=, func_name=, idx=",
    },
    "vllm.renderers.hf": {
        "safe_apply_chat_template": (
            "model_config, tokenizer, conversation, *, tools=, chat_template=, tokenize=, **kwargs"
        ),
    },
    "vllm.renderers.hf.HfRenderer": {
        "_apply_chat_template_async": ATTRIBUTE,
        "_executor": ATTRIBUTE,
        "get_tokenizer": "self",
        "render_messages_async": "self, messages, params",
    },
    "vllm.tool_parsers.hermes_tool_parser.Hermes2ProToolParser": {
        "__init__": "self, tokenizer, tools=",
        "_sent_content_idx": ATTRIBUTE,
        "engine_based_streaming": ATTRIBUTE,
        "extract_tool_calls_streaming": (
            "self, previous_text, current_text, delta_text, previous_token_ids, current_token_ids, "
            "delta_token_ids, request"
        ),
    },
    "vllm.utils.async_utils": {
        "make_async": "func, executor=",
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)


def test_every_override_is_listed() -> None:
    check_overrides(SEAM, WholeCalls, vllm_openai_private.DelegatingParser)
    check_overrides(SEAM, engine_requests.ChatRequest, vllm_openai_private.ChatCompletionRequest)
    check_overrides(SEAM, engine_requests.TextRequest, vllm_openai_private.CompletionRequest)
