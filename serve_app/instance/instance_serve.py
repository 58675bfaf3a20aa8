"""The Serve of one instance: its state, the changes to it, and the wait until the API is ready."""

from collections.abc import Callable, Sequence
from pathlib import Path

from serve_app.deployment_options import APPLICATION
from serve_app.instance import ray_head
from serve_app.instance.application_start import (
    READY_TIMEOUT_S,
    ApplicationStart,
    Readiness,
    ask_readiness,
)
from serve_app.instance.dashboard import Dashboard
from serve_app.instance.processes import Report
from serve_app.instance.rendered_config import Config, instance_config
from serve_app.instance.serve_client import ServeClient, ServeState
from serve_app.instance.serve_update import Recorded, ServeUpdate
from serve_app.instance.start_failure import StartWatch


class InstanceServe:
    """`url` is that of the API. `check_ray` raises InstanceError if Ray has ended."""

    def __init__(self, home: Path, dashboard_port: int, url: str, check_ray: Callable[[], None]) -> None:
        token = ray_head.ensure_token(home).read_text()
        dashboard_url = f"http://127.0.0.1:{dashboard_port}"
        self.client = ServeClient(Dashboard(url=dashboard_url, token=token, is_of_this_machine=True))
        self._url = url
        self._logs = ray_head.session_logs(home)
        self._check_ray = check_ray

    def state(self) -> ServeState:
        return self.client.state()

    def update(
        self, document: Config, http_port: int, beside: Sequence[Config], recorded: Recorded
    ) -> ServeUpdate:
        """Returns the way from what Serve runs to a settings file. Raises: InstanceError: it is wrong."""
        return ServeUpdate(self.client, instance_config(document, http_port, beside), recorded)

    @property
    def has_application(self) -> bool:
        """True if Serve has our application already, or is about to start it."""
        return self.state().application(APPLICATION).status in ("RUNNING", "DEPLOYING")

    def readiness(self) -> Readiness:
        return ask_readiness(self._url)

    def bring_up(self, update: ServeUpdate, report: Report) -> None:
        """Starts what does not run, and returns when the API is ready. Raises: InstanceError."""
        update.submit_what_ends_nothing(report)
        self._start(update, report, READY_TIMEOUT_S, gives_up=True).wait()

    def wait_for(self, update: ServeUpdate, report: Report, timeout_s: float) -> None:
        """Returns when a submitted update is done and the API is ready. Raises: InstanceError."""
        self._start(update, report, timeout_s, gives_up=False).wait()

    def _start(
        self, update: ServeUpdate, report: Report, timeout_s: float, gives_up: bool
    ) -> ApplicationStart:
        watch = StartWatch(self._logs)
        return ApplicationStart(update, watch, self.readiness, self._check_ray, report, timeout_s, gives_up)
