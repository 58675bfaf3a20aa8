"""The application of one base model, which has no ingress.

Serve makes the outermost deployment of an application its ingress: each replica would open a port for HTTP
that asks for no key, and could have no router of its own. Only our other deployments may reach a ModelServer.
Therefore another deployment, which never has a replica, is the outermost one.
"""

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve_app.deployment_options import QUIET

NO_INGRESS = "NoIngress"
NO_REPLICAS = {"min_replicas": 0, "max_replicas": 1}
"""Serve starts a replica when a request comes, and the application has no route by which one could come."""


class NoIngress:
    """The outermost deployment of a base model's application."""

    def __init__(self, server: DeploymentHandle[Any]) -> None:
        raise AssertionError("a request reached the application of a base model over HTTP")


def without_ingress(server: Application) -> Application:
    """Returns the application of the replicas of one base model."""
    deployment = serve.deployment(
        NoIngress,
        name=NO_INGRESS,
        autoscaling_config=NO_REPLICAS,
        ray_actor_options={"num_cpus": 0},
        logging_config=QUIET,
    )
    return deployment.bind(server)
