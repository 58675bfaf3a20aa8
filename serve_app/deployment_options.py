"""Names of the deployments, as the Ray dashboard shows them, and options that several have."""

APPLICATION = "tiger"
INGRESS = "Ingress"
CATALOG = "Catalog"
TRAINER = "Trainer"


def model_server_name(base_model: str) -> str:
    return f"ModelServer:{base_model}"


ONE_LOOP = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}
"""Of replicas whose code never blocks: a request stays on one event loop, which else are three, whose threads
take turns at every token."""

QUIET = {"enable_access_log": False}
"""Of deployments that only others of ours call: a request is logged once, by the ingress."""

MAX_ONGOING_CALLS = 100_000
"""Of one replica at a time. Serve's own queue, in which nobody has a turn, must not come before ours."""
