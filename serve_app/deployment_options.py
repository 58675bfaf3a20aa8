"""Names of the deployments, which the Ray dashboard shows, and options that several deployments share."""

APPLICATION = "tiger"
INGRESS = "Ingress"
CATALOG = "Catalog"
TRAINER = "Trainer"


def model_server_name(base_model: str) -> str:
    return f"ModelServer:{base_model}"


def base_model_application(base_model: str) -> str:
    """Returns the name of the application that has only the replicas of this base model."""
    return f"base-model-{base_model}"


ONE_LOOP = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}
"""Options for replicas whose code never blocks: each request stays on one event loop.

By default there are three loops, whose threads take turns at every token.
"""

QUIET = {"enable_access_log": False}
"""Options for deployments that only our other deployments call: only the ingress logs a request."""

MAX_ONGOING_CALLS = 100_000
"""The largest number of calls in progress at one replica.

It is so high that calls never wait in Serve's own queue, where users do not take turns.
"""
