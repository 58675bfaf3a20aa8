"""Builds the Serve application from a configuration. `serve deploy` calls `serve_app.app:build_app`.

settings  ->  a vLLM server per base model  ->  serve_app.application.build_application
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from ray.serve.llm import LLMConfig

from serve_app.application import build_application
from serve_app.deployment_options import MAX_ONGOING_CALLS, ONE_LOOP, QUIET, model_server_name
from serve_app.model_server.server import ModelServer, WeightsInPlace
from serve_app.settings import BaseModelSettings, Settings, load_settings
from training.chat_template import template_path
from training.settings import SHARED_GPU

HEALTH_CHECK_PERIOD_S = 1.0
"""The time between health checks, by which Serve notices that a replica's process has ended."""
HEALTH_CHECK_TIMEOUT_S = 10.0
"""The time for the answer to a health check. Serve replaces a replica after three failed checks."""


class AppArguments(BaseModel):
    """The `args` of the application in a Serve config file."""

    model_config = ConfigDict(extra="forbid")

    config: str = "local"


def build_app(arguments: AppArguments) -> Application:
    """Returns the application. Raises: FileNotFoundError, pydantic.ValidationError: wrong configuration."""
    settings = load_settings(arguments.config)
    servers = {model.id: build_model_server(model, settings) for model in settings.models}
    return build_application(settings, servers)


def build_model_server(model: BaseModelSettings, settings: Settings) -> Application:
    config = llm_config(model, settings)
    options: dict[str, Any] = {
        **ModelServer.get_deployment_options(config),
        "name": model_server_name(model.id),
        "logging_config": QUIET,
    }
    return serve.deployment(ModelServer, **options).bind(config, model, settings)


def llm_config(model: BaseModelSettings, settings: Settings) -> LLMConfig:
    """Returns Ray Serve LLM's configuration for a base model with adapters."""
    serving = model.serving
    is_gpu = serving.accelerator.kind == "gpu"
    weights = model.weights_path(settings.weights_directory.expanduser())
    engine = {
        "max_model_len": model.max_context_tokens,
        "enable_lora": True,
        "max_lora_rank": model.max_rank,
        "max_cpu_loras": serving.max_adapters,
        "enable_prefix_caching": True,
        "enable_prompt_tokens_details": True,
        "tool_strict_level": "parameter",  # arguments of a tool call always follow their schema
        # This backend enforces all that it accepts. With `auto`, the first request would choose the backend.
        "structured_outputs_config": {"backend": "guidance"},
        "scheduling_policy": "priority",
        **({"chat_template": str(template_path(model.chat_template))} if model.chat_template else {}),
        **({} if is_gpu else {"worker_cls": "serve_app.model_server.vllm_patches.cpu_worker.Worker"}),
        **({"enable_sleep_mode": True} if is_gpu and model.training.share_gpu else {}),
        **serving.engine,
    }
    bundle = {"GPU": SHARED_GPU, "CPU": 1} if is_gpu else {"CPU": 1}
    return LLMConfig(
        model_loading_config={"model_id": model.id, "model_source": weights},
        callback_config={"callback_class": WeightsInPlace} if weights.startswith("/") else {},
        accelerator_type=serving.accelerator.type,
        accelerator_config={"kind": serving.accelerator.kind},
        placement_group_config={"bundles": [bundle]} if not is_gpu or model.training.share_gpu else None,
        engine_kwargs=engine,
        deployment_config={
            "num_replicas": serving.num_replicas,
            "max_ongoing_requests": MAX_ONGOING_CALLS,  # model_server.admission decides
            "health_check_period_s": HEALTH_CHECK_PERIOD_S,
            "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_S,
            "ray_actor_options": {"num_cpus": serving.num_cpus},
        },
        runtime_env={"env_vars": ONE_LOOP | serving.environment},
    )
