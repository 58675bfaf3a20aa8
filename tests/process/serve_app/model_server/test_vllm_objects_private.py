"""The attributes of vLLM's objects that we lean on are in the installed vLLM."""

import pytest

from tests.support.shapes import ATTRIBUTE, Shapes, cases_of, check_names, check_shape

SEAM = "serve_app/model_server/vllm_objects_private.py"
SHAPES: Shapes = {
    "vllm.entrypoints.openai.chat_completion.serving.OpenAIServingChat": {
        "create_chat_completion": "self, request, raw_request=",
        "engine_client": ATTRIBUTE,
        "models": ATTRIBUTE,
        "parser_cls": ATTRIBUTE,
    },
    "vllm.entrypoints.openai.completion.serving.OpenAIServingCompletion": {
        "create_completion": "self, request, raw_request=",
        "engine_client": ATTRIBUTE,
        "models": ATTRIBUTE,
    },
    "vllm.entrypoints.openai.models.serving.OpenAIServingModels": {
        "base_model_paths": ATTRIBUTE,
        "is_base_model": "self, model_name",
        "lora_requests": ATTRIBUTE,
        "model_name": "self, lora_request=",
    },
    "vllm.outputs.CompletionOutput": {
        "finish_reason": ATTRIBUTE,
        "index": ATTRIBUTE,
        "stop_reason": ATTRIBUTE,
        "text": ATTRIBUTE,
        "token_ids": ATTRIBUTE,
    },
    "vllm.outputs.RequestOutput": {
        "outputs": ATTRIBUTE,
        "prompt_logprobs": ATTRIBUTE,
        "prompt_token_ids": ATTRIBUTE,
    },
    "vllm.v1.engine.async_llm.AsyncLLM": {
        "abort": "self, request_id, internal=",
        "add_lora": "self, lora_request",
        "errored": ATTRIBUTE,
        "generate": (
            "self, prompt, sampling_params, request_id, *, prompt_text=, lora_request=, "
            "tokenization_kwargs=, trace_headers=, priority=, data_parallel_rank=, session_id=, "
            "kv_hints=, reasoning_ended=, reasoning_parser_kwargs="
        ),
        "get_tokenizer": "self",
        "is_sleeping": "self",
        "logger_manager": ATTRIBUTE,
        "model_config": ATTRIBUTE,
        "output_processor": ATTRIBUTE,
        "remove_lora": "self, lora_id",
        "renderer": ATTRIBUTE,
        "sleep": "self, level=, mode=",
        "vllm_config": ATTRIBUTE,
        "wake_up": "self, tags=",
    },
    "vllm.v1.engine.output_processor.OutputProcessor": {
        "external_req_ids": ATTRIBUTE,
        "get_num_unfinished_requests": "self",
        "request_states": ATTRIBUTE,
    },
    "vllm.v1.engine.output_processor.RequestState": {
        "is_prefilling": ATTRIBUTE,
    },
    "vllm.v1.metrics.loggers.PrometheusStatLogger": {
        "gauge_lora_info": ATTRIBUTE,
    },
    "vllm.v1.metrics.loggers.StatLoggerManager": {
        "stat_loggers": ATTRIBUTE,
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)
