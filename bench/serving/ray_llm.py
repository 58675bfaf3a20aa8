"""Builds Ray Serve LLM's own OpenAI app, with tiger's base model, engine arguments and replica options.

Its engine loads all plugins of this environment, as tiger's does."""

from pydantic import BaseModel
from ray.serve import Application
from ray.serve.llm import build_openai_app

from serve_app.app import llm_config
from serve_app.settings import load_settings


class RayLLMArguments(BaseModel):
    """The `args` of the application in a Serve config file."""

    config: str


def build(arguments: RayLLMArguments) -> Application:
    settings = load_settings(arguments.config)
    model = settings.base_model(settings.default_model)
    config = llm_config(model, settings)
    config.deployment_config.pop("request_router_config")  # ours knows adapters; this app has its own router
    ingress = {"max_ongoing_requests": settings.ingress.max_ongoing_requests}
    return build_openai_app({"llm_configs": [config], "ingress_deployment_config": ingress})
