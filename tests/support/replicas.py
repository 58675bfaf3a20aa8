"""The replicas of the running application, as Serve and Ray know them."""

import ray
from ray import serve

from serve_app.deployment_options import base_model_application, model_server_name


def num_ongoing(deployment: str) -> int:
    """Requests that Serve counts at the replicas of a deployment."""
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    replicas = [name for name in names if f"#{deployment}#" in name]
    assert replicas
    return sum(
        ray.get(ray.get_actor(name, namespace="serve").get_num_ongoing_requests.remote()) for name in replicas
    )


def replica_ids(deployment: str) -> set[str]:
    """The names of the actors that are the replicas of a deployment."""
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    return {name for name in names if f"#{deployment}#" in name}


def num_running(base_model: str) -> int:
    status = (
        serve.status()
        .applications[base_model_application(base_model)]
        .deployments[model_server_name(base_model)]
    )
    return status.replica_states.get("RUNNING", 0)


def kill_replica(deployment: str) -> None:
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    replica = next(name for name in names if f"#{deployment}#" in name)
    ray.kill(ray.get_actor(replica, namespace="serve"))
