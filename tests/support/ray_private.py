"""The private names of Ray that only tests need. Tests take them from here."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.serve._private.common import DeploymentID
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE
from ray.serve.schema import ServeDeploySchema

if TYPE_CHECKING:  # it imports vLLM, which most tests that use this file do not need
    from ray.serve.llm import LLMConfig

__all__ = [
    "HAPROXY_CONFIG_TEMPLATE",
    "BackendConfig",
    "DeploymentID",
    "HAProxyConfig",
    "ServerConfig",
    "deploy_applications",
    "initialization_of",
    "vllm_arguments",
    "write_haproxy_configuration",
]


def write_haproxy_configuration(config: HAProxyConfig, backend: BackendConfig, path: Path) -> None:
    """Writes the file with which Ray starts HAProxy for one application."""
    HAProxyApi(config, {backend.name: backend}, str(path))._generate_config_file_internal()


def deploy_applications(config: ServeDeploySchema) -> None:
    """Submits a Serve configuration to the Ray of this process, as `serve deploy` does to a dashboard."""
    from ray.serve.context import _get_global_client

    _get_global_client().deploy_apps(config)


def initialization_of(config: "LLMConfig") -> dict[str, Any]:
    """Returns the engine arguments with which a replica of Ray Serve LLM starts."""
    from ray.llm._internal.serve.engines.vllm.vllm_models import VLLMEngineConfig

    arguments: dict[str, Any] = VLLMEngineConfig.from_llm_config(config).get_initialization_kwargs()
    return arguments


def vllm_arguments(engine_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments that Ray Serve LLM gives to vLLM for those of a configuration."""
    from ray.llm._internal.serve.engines.vllm.vllm_engine import _normalize_vllm_engine_kwargs

    arguments: dict[str, Any] = _normalize_vllm_engine_kwargs(engine_kwargs)
    return arguments
