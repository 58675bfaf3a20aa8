"""The environment that Ray must have on every node of a cluster before it starts.

`tiger up` and cluster/rayservice.yaml set these variables themselves. For a Ray that somebody starts by hand,
`tiger environment` prints them for a shell.
"""

import shlex

from serve_app.http_settings import PREFIX
from serve_app.instance import haproxy
from serve_app.instance.ray_head import WITHOUT_REPORTS
from serve_app.settings import Settings

OF_THE_ADDRESS = ("HOST", "PORT")
"""Serve tells HAProxy where to listen in a cluster."""


def node_environment(settings: Settings) -> dict[str, str]:
    """Returns the variables: the token, no reports to others, HAProxy and gRPC, and limits."""
    address = {f"{PREFIX}{name}" for name in OF_THE_ADDRESS}
    limits = haproxy.front_door_environment(settings.http, settings.ingress.max_request_bytes)
    return {
        "RAY_AUTH_MODE": "token",
        **WITHOUT_REPORTS,
        # Otherwise a training whose worker has died is noticed after seconds.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        **haproxy.DATA_PATH,
        haproxy.BINARY_VARIABLE: str(haproxy.BINARY),
        **{name: value for name, value in limits.items() if name not in address},
    }


def exports(settings: Settings) -> str:
    """Returns the variables as commands of a shell."""
    variables = node_environment(settings).items()
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables)
