"""Chooses the number of replicas of a base model by the generations in them. Serve's controller calls it.

Serve's own policy counts calls. Each ingress replica asks every replica for its health once a second, and
these calls would count too: a base model that nobody uses would rarely seem idle, and keep its last replica.

    replica  --record_autoscaling_stats-->  number of generations  -+
    handles  --requests that wait for a replica---------------------+-->  by_generations

Serve sends this module to its controller by value. It therefore imports nothing of ours.
"""

from typing import Any

from ray.serve.config import AutoscalingContext

GENERATIONS = "generations"
"""The name under which a replica reports the number of its generations in progress or waiting."""


def by_generations(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Returns the number of replicas for the present load. Serve applies bounds and delays to it.

    A new replica has reported nothing for some seconds. While there is one, the calls in progress count.
    """
    reported = (context.aggregated_metrics or {}).get(GENERATIONS, {})
    if all(replica in reported for replica in context.running_replicas):
        num_waiting = max(0.0, context.total_queued_requests or 0.0)
        load = sum(reported[replica] for replica in context.running_replicas) + num_waiting
    else:
        load = context.total_num_requests
    return load / context.config.target_ongoing_requests, {}
