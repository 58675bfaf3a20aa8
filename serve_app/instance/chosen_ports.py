"""The ports of an instance that its users know: that of the HTTP API and that of the Ray dashboard."""

from dataclasses import dataclass

from serve_app.instance import ray_head
from serve_app.instance.ports import PortTaken, is_free
from serve_app.instance.processes import InstanceError


@dataclass(frozen=True)
class ChosenPorts:
    """The operator's choice, or the default. Each method raises PortTaken if a port is in use."""

    http_host: str
    http: int
    dashboard: int

    def require_free(self) -> None:
        """Checks both ports. Raises also InstanceError: Ray gives the dashboard's port to its workers."""
        self.require_free_http()
        if self.dashboard in ray_head.WORKER_PORTS:
            first, last = ray_head.WORKER_PORTS[0], ray_head.WORKER_PORTS[-1]
            raise InstanceError(
                f"port {self.dashboard} (Ray dashboard) is one of {first}-{last}, "
                "which Ray gives its workers: choose another with --dashboard-port"
            )
        if not is_free(self.dashboard):
            raise PortTaken(self.dashboard, "Ray dashboard", "choose another with --dashboard-port")

    def require_free_http(self) -> None:
        if not is_free(self.http, self.http_host):
            raise PortTaken(self.http, "HTTP", "choose another with --port or TIGER_HTTP__PORT")
