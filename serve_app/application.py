"""Builds the application `tiger`: all deployments but the model servers.

Ingress (N)  ->  Catalog (1)
             ->  Trainer (1)  ->  Catalog, ModelServer:<base>;  starts Ray Train runs
             ->  ModelServer:<base> (N per base model, each base model in an application of its own)

This module does not need vLLM. The number and the resources of the ingress replicas are in the Serve config.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from serve_app.api.ingress import Ingress
from serve_app.catalog.cache_leases import TERM_S
from serve_app.catalog.deployment import CatalogDeployment
from serve_app.deployed_settings import Document
from serve_app.deployment_options import CATALOG, INGRESS, MAX_ONGOING_CALLS, ONE_LOOP, QUIET, TRAINER
from serve_app.training_deployment import StartRun, Trainer
from training.worker.loop import start_run


def build_application(args: Document, start_run: StartRun = start_run) -> Application:
    """Returns the application. `args` are the settings with which its processes start."""
    catalog = _single(CatalogDeployment, CATALOG, runtime_env={"env_vars": ONE_LOOP}).bind(args, TERM_S)
    trainer = _single(Trainer, TRAINER).bind(args, catalog, start_run)
    return serve.deployment(Ingress, name=INGRESS).bind(args, catalog, trainer)


def _single(target: type, name: str, **actor_options: Any) -> Any:
    return serve.deployment(
        target,
        name=name,
        num_replicas=1,
        max_ongoing_requests=MAX_ONGOING_CALLS,
        ray_actor_options={"num_cpus": 0, **actor_options},
        logging_config=QUIET,
    )
