"""The name of the Ray cluster and the application in which a replica runs.

All replicas that follow one another in one cluster have the same name, also after a restart of the head with
fault tolerance. A new cluster, and a second application of the same cluster, have other names.
"""

import ray
from ray import serve


def this_cluster() -> str:
    """Returns the name, in a replica of Ray Serve. Ray makes the session's name from time and process id."""
    session = ray.get_runtime_context().get_session_name()
    return f"{session}/{serve.get_replica_context().app_name}"
