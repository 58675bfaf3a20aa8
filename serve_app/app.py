"""Builds the Serve applications from their `args`, which `serve_app.serve_config` renders.

build_app         ->  serve_app.application.build_application: Ingress, Catalog, Trainer
build_base_model  ->  the vLLM server of one base model
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application
from ray.serve.llm import LLMConfig

from serve_app.application import build_application
from serve_app.deployed_settings import Document, served_settings
from serve_app.deployment_options import MAX_ONGOING_CALLS, ONE_LOOP, QUIET, model_server_name
from serve_app.model_server.server import ModelServer
from serve_app.model_server.weights_in_place import WeightsInPlace
from serve_app.no_ingress import without_ingress
from serve_app.scaling_settings import LIFE
from serve_app.serving_settings import ReplicaSettings, ServedModelSettings
from serve_app.settings import SharedSettings
from training.chat_template import template_path

ENGINE_BUNDLE = {"CPU": 1}
"""The resources that Ray reserves for the processes of the engine, beside those of the replica."""
ACCELERATOR_MARK = 0.001
"""The amount of Ray's resource `accelerator_type:...` that asks for a node with this type."""


ADAPTER_ROUTER = "serve_app.model_server.adapter_router.AdapterRouter"

NO_REPORTS = {"VLLM_NO_USAGE_STATS": "1"}
"""vLLM must not report its use to its makers: only the operator decides what leaves the machine."""


class CoreArguments(BaseModel):
    """The `args` of the application `tiger`: what its deployments cannot change while they run."""

    model_config = ConfigDict(extra="forbid")

    storage: Document = {}


class BaseModelArguments(BaseModel):
    """The `args` of the application of one base model: the settings with which its replicas start."""

    model_config = ConfigDict(extra="forbid")

    storage: Document = {}
    weights_directory: str | None = None
    model_paths: dict[str, str] = {}
    base_model: Document


def build_app(arguments: CoreArguments) -> Application:
    """Returns the application of all deployments but the model servers."""
    return build_application(arguments.model_dump(exclude_unset=True))


def build_base_model(arguments: BaseModelArguments) -> Application:
    """Returns the application of one base model. Raises: pydantic.ValidationError: wrong settings."""
    return build_model_server(arguments.model_dump(exclude_unset=True))


def build_model_server(args: Document, engine_cls: type | None = None) -> Application:
    """Returns the replicas of one base model. `engine_cls` replaces Ray LLM's engine."""
    settings = served_settings(args, {})
    config = llm_config(settings.base_model, settings)
    options: dict[str, Any] = {
        **ModelServer.get_deployment_options(config),
        "name": model_server_name(settings.base_model.id),
        "logging_config": QUIET,
    }
    return without_ingress(serve.deployment(ModelServer, **options).bind(config, args, engine_cls))


def llm_config(model: ServedModelSettings, settings: SharedSettings) -> LLMConfig:
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
        "worker_cls": f"serve_app.model_server.vllm_patches.{serving.accelerator.kind}_worker.Worker",
        **({"enable_sleep_mode": True} if is_gpu and model.training.share_gpu else {}),
        **serving.engine,
    }
    return LLMConfig(
        model_loading_config={"model_id": model.id, "model_source": weights},
        callback_config={"callback_class": WeightsInPlace},
        # For kind `gpu`, Ray LLM starts further actors, which own the GPUs. They ask for whole GPUs, and each
        # of them imports vLLM again. With `cpu`, vLLM's workers are processes of the replica, as on CPUs,
        # and use the GPUs that Ray gives to the replica.
        accelerator_config={"kind": "cpu"},
        placement_group_config={"bundles": [ENGINE_BUNDLE]},
        engine_kwargs=engine,
        deployment_config={
            "num_replicas": serving.num_replicas,
            "max_ongoing_requests": MAX_ONGOING_CALLS,  # model_server.admission decides
            "request_router_config": {
                "request_router_class": ADAPTER_ROUTER,
                "request_router_kwargs": {"max_lead": serving.max_adapter_lead},
            },
            **serving.model_dump(include=LIFE),
            "ray_actor_options": _replica_resources(serving),
        },
        runtime_env={"env_vars": ONE_LOOP | NO_REPORTS | serving.environment},
    )


def _replica_resources(serving: ReplicaSettings) -> dict[str, Any]:
    """Returns the resources of a replica, as options of a Ray actor. Ray chooses one node for all of them."""
    resources: dict[str, Any] = {"num_cpus": serving.num_cpus, "num_gpus": serving.num_gpus}
    if serving.accelerator.type is not None:
        resources["resources"] = {f"accelerator_type:{serving.accelerator.type}": ACCELERATOR_MARK}
    return resources
