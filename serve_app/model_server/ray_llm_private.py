"""The names of Ray Serve LLM that are private, or that Ray does not promise to keep.

All other files take these names from here. `tests/process/serve_app/model_server/test_ray_llm_private.py`
compares each of them with the installed Ray. They are not in `serve_app.ray_private`, because only a model
server needs Ray Serve LLM.
"""

from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase

__all__ = ["CallbackBase", "chat_serving", "engine_client", "text_serving"]

OBJECTS = {
    "ray.llm._internal.common.callbacks.base.CallbackBase": ("on_before_node_init", "ctx"),
    "ray.llm._internal.common.callbacks.base.CallbackCtx": ("run_init_node",),
    "ray.llm._internal.serve.core.server.llm_server.LLMServer": (
        "__init__",
        "_init_multiplex_loader",
        "_start_engine",
        "_load_model",
        "__del__",
        "check_health",
        "engine",
        "get_deployment_options",
    ),
    "ray.llm._internal.serve.engines.vllm.vllm_engine.VLLMEngine": (
        "start",
        "_engine_client",
        "_oai_serving_chat",
        "_oai_serving_completion",
    ),
}
"""The names that `model_server.server` overrides or reads on Ray's objects, and those of this file."""


def engine_client(engine: Any) -> Any:
    """Returns vLLM's AsyncLLM of Ray's VLLMEngine."""
    return engine._engine_client


def chat_serving(engine: Any) -> Any:
    """Returns vLLM's serving object for chat completions of Ray's VLLMEngine."""
    return engine._oai_serving_chat


def text_serving(engine: Any) -> Any:
    """Returns vLLM's serving object for completions of Ray's VLLMEngine."""
    return engine._oai_serving_completion
