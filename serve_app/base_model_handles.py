"""Connects a deployment with the replicas of a base model, which are in an application of their own."""

from serve_app.deployment_options import base_model_application, model_server_name
from serve_app.model_server.client import ModelClient
from serve_app.ray_private import deployment_handle


def model_client(base_model: str) -> ModelClient:
    """Returns the calls of the replicas of a base model. They need not exist: calls fail until they do."""
    return ModelClient(deployment_handle(model_server_name(base_model), base_model_application(base_model)))
