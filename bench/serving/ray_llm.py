"""Builds Ray Serve LLM's own OpenAI app, with tiger's base model, engine arguments and replica options.

Its engine loads all plugins of this environment, as tiger's does."""

from ray.serve import Application
from ray.serve.llm import build_openai_app

from serve_app.app import AppArguments, llm_config
from serve_app.settings import load_settings


def build(arguments: AppArguments) -> Application:
    settings = load_settings(arguments.config)
    model = settings.base_model(settings.default_model)
    config = llm_config(model, settings)
    ingress = {"max_ongoing_requests": settings.ingress.max_ongoing_requests}
    return build_openai_app({"llm_configs": [config], "ingress_deployment_config": ingress})
