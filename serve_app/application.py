"""Builds the application from the given model servers and the other deployments.

Ingress (N)  ->  Catalog (1)
             ->  Trainer (1)  ->  Catalog, ModelServer:<base>;  starts Ray Train runs
             ->  ModelServer:<base> (N per base model)

This module does not need vLLM, because `serve_app.app` makes the servers.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from serve_app.api.ingress import Ingress
from serve_app.catalog.cache_leases import TERM_S
from serve_app.catalog.catalog import Catalog
from serve_app.deployment_options import CATALOG, INGRESS, MAX_ONGOING_CALLS, ONE_LOOP, QUIET, TRAINER
from serve_app.settings import Settings
from serve_app.this_cluster import this_cluster
from serve_app.training_deployment import StartRun, Trainer
from training.worker.loop import start_run


def build_application(
    settings: Settings, servers: dict[str, Application], start_run: StartRun = start_run
) -> Application:
    """Returns the application. `servers` has a ModelServer for each id of a base model."""
    catalog = _single(Catalog, CATALOG, runtime_env={"env_vars": ONE_LOOP}).bind(
        settings, TERM_S, this_cluster
    )
    trainer = _single(Trainer, TRAINER).bind(settings, catalog, servers, start_run)
    ingress = serve.deployment(
        Ingress,
        name=INGRESS,
        num_replicas=settings.ingress.num_replicas,
        max_ongoing_requests=settings.ingress.max_ongoing_requests,
        ray_actor_options={"num_cpus": settings.ingress.num_cpus, "runtime_env": {"env_vars": ONE_LOOP}},
    )
    return ingress.bind(settings, catalog, trainer, servers)


def _single(target: type, name: str, **actor_options: Any) -> Any:
    return serve.deployment(
        target,
        name=name,
        num_replicas=1,
        max_ongoing_requests=MAX_ONGOING_CALLS,
        ray_actor_options={"num_cpus": 0, **actor_options},
        logging_config=QUIET,
    )
