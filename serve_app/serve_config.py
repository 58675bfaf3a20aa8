"""Renders a settings file as the Serve config, which `serve deploy` and the dashboard's REST API accept.

    settings file  ->  serve_config  ->  application `tiger`: Ingress, Catalog, Trainer
                                         application `base-model-<id>` for each base model: ModelServer:<id>

Serve restarts all replicas of an application when its `args` change. When only a `user_config` changes, it
calls `reconfigure` of the running replicas. Therefore `args` have the settings that a process needs at its
start, and each `user_config` has the others. A base model has an application of its own, so that a change of
one base model does not concern the others.
"""

import re
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from serve_app.deployment_options import (
    APPLICATION,
    CATALOG,
    INGRESS,
    ONE_LOOP,
    TRAINER,
    base_model_application,
    model_server_name,
)
from serve_app.scaling_settings import LIFE
from serve_app.serving_settings import ReplicaSettings
from serve_app.settings import BaseModelSettings, IngressSettings, Settings, build_settings

CORE_IMPORT_PATH = "serve_app.app:build_app"
BASE_MODEL_IMPORT_PATH = "serve_app.app:build_base_model"

IN_PLACE = frozenset(
    {
        "ingress",
        "limits",
        "usage",
        "weights_directory",
        "model_paths",
        "default_model",
        "operators",
        "dashboard_url",
        "models",
    }
)
"""The sections that the deployments of `tiger` apply while they run."""
START_OF_A_REPLICA = frozenset({"id", "source", "chat_template", "max_context_tokens", "max_rank"})
"""The settings of a base model, beside those in `serving`, with which its replicas start."""
OPTIONS_OF_SERVE = frozenset({"num_replicas", "autoscaling", *LIFE})
"""The settings in `serving` that only Serve itself has to know."""
SERVING_IN_PLACE = OPTIONS_OF_SERVE | {"share_beside"}
"""The settings in `serving` that change without a restart."""

SECRET_NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|KEY|KEY_ID)$", re.IGNORECASE)
"""The names of variables and arguments with secret values, which everybody sees who may see Serve's state."""

Section = dict[str, Any]
"""Settings as JSON values."""


class WrittenSettings(Settings):
    """The settings of a document without TIGER_* variables. The document has to be valid without them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def serve_config(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the Serve config of a settings file with the contents `document`, as JSON values.

    `args` and `user_config` have only what the document has: each deployment applies the TIGER_* variables of
    its node. For what Serve has to know, TIGER_* variables of this process count: the address of the API, and
    the number and the resources of the replicas.

    Raises:
        pydantic.ValidationError: a wrong or unknown key.
        ValueError: the document has a value that is probably secret.
    """
    written = WrittenSettings(**document).model_dump(mode="json", exclude_defaults=True)
    settings = build_settings(document)
    _refuse_secrets(settings)
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": settings.http.host, "port": settings.http.port},
        "applications": [
            _core(settings, written),
            *(_base_model(settings.base_model(each["id"]), each, written) for each in written["models"]),
        ],
    }


def _core(settings: Settings, written: Section) -> dict[str, Any]:
    """Returns the application that answers requests, keeps the lists of models, and accepts trainings."""
    in_place = _only(written, IN_PLACE)
    actor = {"num_cpus": settings.ingress.num_cpus, "runtime_env": {"env_vars": dict(ONE_LOOP)}}
    ingress = {
        "name": INGRESS,
        **_scale(settings.ingress),
        "max_ongoing_requests": settings.ingress.max_ongoing_requests,
        "ray_actor_options": actor,
        "user_config": in_place,
    }
    return {
        "name": APPLICATION,
        "route_prefix": "/",
        "import_path": CORE_IMPORT_PATH,
        "args": _only(written, {"storage"}),
        "deployments": [
            ingress,
            {"name": CATALOG, "user_config": in_place},
            {"name": TRAINER, "user_config": in_place},
        ],
    }


def _base_model(model: BaseModelSettings, section: Section, written: Section) -> dict[str, Any]:
    """Returns the application with the replicas of one base model. Only other deployments can reach it."""
    return {
        "name": base_model_application(model.id),
        "route_prefix": None,
        "import_path": BASE_MODEL_IMPORT_PATH,
        "args": _only(written, {"storage"}) | _weights(section, written) | {"base_model": _at_start(section)},
        "deployments": [
            {
                "name": model_server_name(model.id),
                **_scale(model.serving),
                "user_config": _only(written, {"limits", "usage"}) | _base_model_in_place(section),
            }
        ],
    }


def _scale(settings: IngressSettings | ReplicaSettings) -> Section:
    """Returns the options by which Serve adds, checks and ends the replicas of a deployment."""
    if settings.autoscaling is None:
        return {"num_replicas": settings.num_replicas} | settings.serve_options()
    return {"autoscaling_config": settings.autoscaling.serve_config()} | settings.serve_options()


def _weights(section: Section, written: Section) -> Section:
    """Returns the settings that say where the weights of a base model are on a node."""
    base_model = section["id"]
    if base_model in written.get("model_paths", {}):
        return {"model_paths": {base_model: written["model_paths"][base_model]}}
    is_converted = section["source"].startswith("package:")
    return _only(written, {"weights_directory"}) if is_converted else {}


def _at_start(section: Section) -> Section:
    at_start = _only(section, START_OF_A_REPLICA)
    serving = section.get("serving", {})
    if fixed := _only(serving, serving.keys() - SERVING_IN_PLACE):
        at_start["serving"] = fixed
    if section.get("training", {}).get("share_gpu"):
        at_start["training"] = {"share_gpu": True}  # its engine has to be able to sleep
    return at_start


def _base_model_in_place(section: Section) -> Section:
    in_place = _only(section, {"default_max_tokens"})
    if serving := _only(section.get("serving", {}), SERVING_IN_PLACE - OPTIONS_OF_SERVE):
        in_place["serving"] = serving
    return {"base_model": in_place} if in_place else {}


def _only(section: Section, names: set[str] | frozenset[str]) -> Section:
    return {name: value for name, value in section.items() if name in names}


def _refuse_secrets(settings: Settings) -> None:
    """Raises: ValueError, which names the setting and not its value."""
    for model in settings.models:
        for name in filter(SECRET_NAME.search, model.serving.environment):
            raise ValueError(
                f"models: serving.environment of {model.id} must not contain {name}, because everybody who "
                "may see Serve's state sees its config: set it in the environment of the Ray processes"
            )
        for name, value in model.serving.engine.items():
            if SECRET_NAME.search(name) and isinstance(value, str):
                raise ValueError(
                    f"models: serving.engine of {model.id} must not contain {name}, because everybody who "
                    "may see Serve's state sees its config: set HF_TOKEN where the Ray processes start"
                )
    if "@" in (settings.storage.endpoint_url or ""):
        raise ValueError("storage.endpoint_url must not contain a user or a password")
