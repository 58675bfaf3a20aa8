"""Attributes of vLLM's objects that we read or replace. vLLM does not promise to keep them.

`tests/process/serve_app/model_server/test_vllm_objects_private.py` looks for each of them in the installed
vLLM. This file imports nothing of vLLM, because files use it that must not load vLLM. The other names of vLLM
are in `model_server.vllm_private` and in the files that it lists.
"""

import copy
from typing import Any

OBJECTS = {
    "vllm.entrypoints.openai.chat_completion.serving.OpenAIServingChat": (
        "create_chat_completion",
        "engine_client",
        "models",
        "parser_cls",
    ),
    "vllm.entrypoints.openai.completion.serving.OpenAIServingCompletion": (
        "create_completion",
        "engine_client",
        "models",
    ),
    "vllm.entrypoints.openai.models.serving.OpenAIServingModels": (
        "base_model_paths",
        "is_base_model",
        "lora_requests",
        "model_name",
    ),
    "vllm.outputs.CompletionOutput": ("finish_reason", "index", "stop_reason", "text", "token_ids"),
    "vllm.outputs.RequestOutput": ("outputs", "prompt_logprobs", "prompt_token_ids"),
    "vllm.v1.engine.async_llm.AsyncLLM": (
        "abort",
        "add_lora",
        "errored",
        "generate",
        "get_tokenizer",
        "is_sleeping",
        "logger_manager",
        "model_config",
        "output_processor",
        "remove_lora",
        "renderer",
        "sleep",
        "vllm_config",
        "wake_up",
    ),
    "vllm.v1.engine.output_processor.OutputProcessor": (
        "external_req_ids",
        "get_num_unfinished_requests",
        "request_states",
    ),
    "vllm.v1.engine.output_processor.RequestState": ("is_prefilling",),
    "vllm.v1.metrics.loggers.PrometheusStatLogger": ("gauge_lora_info",),
    "vllm.v1.metrics.loggers.StatLoggerManager": ("stat_loggers",),
}
"""The names that we read or replace on the engine, its serving objects and its outputs."""


def num_unfinished(engine: Any) -> int:
    """Returns the number of requests that the engine, an AsyncLLM, has not finished."""
    return int(engine.output_processor.get_num_unfinished_requests())


def reads_prompt(engine: Any, request_id: str) -> bool:
    """Returns True until the engine has read the prompt, also before the engine knows the request."""
    known = engine.output_processor
    states = [known.request_states.get(each) for each in known.external_req_ids.get(request_id, ())]
    return all(state.is_prefilling for state in states if state is not None)


def remove_adapter_gauge(engine: Any) -> None:
    """Removes vLLM's metric `lora_requests_info`, which names all adapters."""
    if engine.logger_manager is not None:
        for logger in engine.logger_manager.stat_loggers:
            if hasattr(logger, "gauge_lora_info"):
                logger.gauge_lora_info = None


def serving_with(serving: Any, models: Any, engine: Any) -> Any:
    """Returns a shallow copy of a serving object, with another table of models and another engine."""
    changed = copy.copy(serving)
    changed.models = models
    changed.engine_client = engine
    return changed
