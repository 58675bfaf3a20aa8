"""The names of Ray and Ray Serve that are private, or that Ray does not promise to keep.

All other files take these names from here. `tests/unit/serve_app/test_ray_private.py` compares each of them
with the installed Ray. This file imports only modules that `ray.serve` has loaded, because every deployment
uses it. The names of Ray Serve LLM, which the ingress must not load, are in `model_server.ray_llm_private`.
Those of Ray Train, which load torch, are in `training.worker.ray_train_private`.
"""

from typing import Any

from ray import serve
from ray._common.network_utils import build_address
from ray.serve._private import replica
from ray.serve._private.constants import SERVE_LOGGER_NAME
from ray.serve.multiplex import _ModelMultiplexWrapper as ModelMultiplexWrapper

__all__ = [
    "SERVE_LOGGER_NAME",
    "ModelMultiplexWrapper",
    "build_address",
    "deployment_handle",
    "replica",
    "user_config_of_this_replica",
]

OBJECTS = {
    "ray.serve": ("get_deployment_handle",),
    "ray.serve.context.ReplicaContext": ("_deployment_config",),
    "ray.serve._private.replica": ("SERVE_BUILD_ASGI_APP_METHOD", "add_port_to_grpc_server"),
    "ray.serve.multiplex._ModelMultiplexWrapper": ("__init__", "registered_model_gauge"),
}
"""The names that we read, replace or override on Ray's objects.

Serve asks the ingress for its application by the method `__serve_build_asgi_app__` (api.ingress).
"""

MULTIPLEX_WRAPPER = "__serve_multiplex_wrapper"
"""The attribute of a function in which `serve.multiplexed` keeps its wrapper."""


def user_config_of_this_replica() -> dict[str, Any]:
    """Returns the `user_config`, in the constructor of a deployment. Serve calls `reconfigure` after it."""
    config: dict[str, Any] | None = serve.get_replica_context()._deployment_config.user_config
    return config or {}


def deployment_handle(deployment: str, application: str) -> Any:
    """Returns a handle. The deployment need not exist yet, and Serve is not asked for it."""
    return serve.get_deployment_handle(deployment, application, _check_exists=False)
