"""An instance: one installation on one machine, with its home directory, its ports and its processes.

    up:    checks -> weights -> storage (SeaweedFS) -> Ray head -> Serve application -> /readyz
    down:  Serve application -> Ray head and all that it left behind -> storage

Each process that was started is written to `<home>/instance.json` at once. After any crash, the next command
therefore knows the processes of this instance. Two homes share only the converted weights.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry.audit import AuditLog
from registry.keys import ApiKeys
from registry.operator_actions import OperatorKeys, recorded_deployment
from registry.store import ObjectStore
from serve_app.instance import ray_head
from serve_app.instance.application_start import Readiness
from serve_app.instance.chosen_ports import ChosenPorts
from serve_app.instance.deployment_check import DeploymentCheck
from serve_app.instance.instance_serve import InstanceServe
from serve_app.instance.locked_home import locked_home
from serve_app.instance.monitoring import Monitoring
from serve_app.instance.process_environment import process_environment
from serve_app.instance.processes import InstanceError, Report, marked_processes, stop_processes
from serve_app.instance.serve_client import ServeState
from serve_app.instance.serve_update import ServeUpdate
from serve_app.instance.state import STATE_FILE, InstanceState, StateFile
from serve_app.instance.status import InstanceStatus
from serve_app.instance.storage import InstanceStorage
from serve_app.instance.waits import Wait
from serve_app.instance.weights import prepare_weights
from serve_app.settings import Settings, load_settings, read_document

SWEEP_GRACE_S = 5
DEFAULT_DASHBOARD_PORT = 8265
FIRST_USER = "demo"


class Instance:
    """One instance. It remembers `config` and the ports; None: the value of the last time, or the default.

    `beside` has the Serve configs of other applications that run in the same Serve, as benchmarks have them.
    """

    def __init__(
        self,
        home: Path,
        config: str | None = None,
        http_port: int | None = None,
        dashboard_port: int | None = None,
        beside: Sequence[dict[str, Any]] = (),
        check: DeploymentCheck | None = None,
        monitoring: bool | None = None,
    ) -> None:
        self.home = home.expanduser().resolve()
        self._remembered = StateFile(self.home / STATE_FILE)
        before = self.state
        self.config = _absolute(config) or before.config or "local"
        self.settings: Settings = load_settings(self.config)
        chosen = self.settings.http.port if "TIGER_HTTP__PORT" in os.environ else before.http_port
        self.http_port = http_port or chosen or self.settings.http.port
        self.dashboard_port = dashboard_port or before.dashboard_port or DEFAULT_DASHBOARD_PORT
        self.storage = InstanceStorage(self.home, self.settings.storage, self._remembered)
        self.monitoring = Monitoring(self.home, self._remembered, self.dashboard_port, monitoring)
        self._beside = tuple(beside)
        self._check = check or DeploymentCheck()

    @property
    def state(self) -> InstanceState:
        return self._remembered.read()

    @property
    def exists(self) -> bool:
        """True if `up` was ever called for this home."""
        return self._remembered.path.exists()

    @property
    def url(self) -> str:
        host = self.settings.http.host
        return f"http://{'localhost' if host in ('0.0.0.0', '127.0.0.1', '::') else host}:{self.http_port}"

    @property
    def dashboard_url(self) -> str:
        return f"http://localhost:{self.dashboard_port}"

    @property
    def token_path(self) -> Path:
        return ray_head.ensure_token(self.home)

    @property
    def ray_log(self) -> Path:
        return self.home / "ray.log"

    def store(self) -> ObjectStore:
        """Returns the bucket. If this home was never up, as on a cluster, the settings name the bucket."""
        return self.storage.store() if self.exists else ObjectStore(self.settings.storage)

    @contextmanager
    def storage_alone(self, report: Report) -> Iterator[ObjectStore]:
        """Yields the bucket, while no command starts the application. Raises: InstanceError: it runs."""
        with locked_home(self.home):
            if self.is_running:
                raise InstanceError("this instance is up: `tiger down` first")
            with self.storage.started(report) as store:
                yield store

    # Ray and Serve

    def environment(self) -> dict[str, str]:
        """Returns the environment of Ray's processes and of others that join them (`ray status`, a test)."""
        environment = process_environment(self.home, self.settings, self.http_port, self.storage)
        head = self.state.ray
        of_ray = ray_head.ray_environment(self.home, head.gcs_port) if head is not None else {}
        return environment | self.monitoring.environment() | of_ray

    @property
    def _ports(self) -> ChosenPorts:
        return ChosenPorts(self.settings.http.host, self.http_port, self.dashboard_port)

    @property
    def _weights_directory(self) -> Path:
        return self.settings.weights_directory.expanduser()

    @property
    def serve(self) -> InstanceServe:
        """The Serve of the running Ray."""
        return InstanceServe(self.home, self.dashboard_port, self.url, self._check_ray)

    def serve_update(self) -> ServeUpdate:
        """Returns the way from what Serve runs to the settings file."""
        return self.serve.update(
            read_document(self.config),
            self.http_port,
            self._beside,
            lambda submitted: recorded_deployment(AuditLog(self.store()), self.config, submitted),
        )

    @property
    def is_running(self) -> bool:
        """True if the Ray of this instance is alive."""
        head = self.state.ray
        return head is not None and head.process.is_alive

    def _ensure_ray(self, report: Report) -> None:
        head = self.state.ray
        # A head that is alive and does not answer is most likely busy, so wait before it is stopped.
        if head is not None and ray_head.wait_until_ready(head, self.home):
            return report(f"Ray: running, dashboard {self.dashboard_url}")
        self._stop_ray()
        self._ports.require_free()
        head = ray_head.start(self.home, self.environment(), self.dashboard_port, self.ray_log)
        self._remembered.update(ray=head)
        if not ray_head.wait_until_ready(head, self.home):
            tail = "\n".join(self.ray_log.read_text(errors="replace").splitlines()[-15:])
            raise InstanceError(f"Ray did not start (log: {self.ray_log}):\n{tail}")
        report(f"Ray: started, dashboard {self.dashboard_url}")

    def _stop_ray(self) -> None:
        """Stops the head, and then all processes with our marker, which a killed head could not end."""
        if (head := self.state.ray) is not None:
            ray_head.stop(head)
        stop_processes(marked_processes(self.home), SWEEP_GRACE_S)
        self._remembered.update(ray=None)

    def _check_ray(self) -> None:
        if not self.is_running:
            raise InstanceError(f"Ray ended while the application was starting (log: {self.ray_log})")

    # Commands

    def up(self, report: Report = print) -> str | None:
        """Starts everything that is not running. Returns a key for the first user if there is no key yet.

        Raises:
            InstanceError: something cannot be started. Processes that were started stay, so that the operator
                can look at them and call `up` again.
        """
        with locked_home(self.home):
            self._require_same_choices()
            was_running = self.is_running
            if not was_running:
                self._stop_ray()
                self._ports.require_free()
            self._remember_choices()
            self.monitoring.prepare(was_running)
            try:
                self._bring_up(report)
            except KeyboardInterrupt:
                if not was_running:
                    self._stop()
                raise
            store = self.store()
            return OperatorKeys(store).create(FIRST_USER, "first") if ApiKeys(store).is_empty() else None

    def _bring_up(self, report: Report) -> None:
        self._prepare(report)
        self.storage.ensure(report, may_move=not self.is_running)
        self._ensure_ray(report)
        self.monitoring.ensure(self.token_path, report)
        if not self.serve.state().applications:
            self._ports.require_free_http()
        self.serve.bring_up(self.serve_update(), report)
        report(f"ready: {self.url}")

    def _prepare(self, report: Report) -> None:
        """Checks the base models that do not run, and converts weights.

        The memory of a GPU is not free while base models run on it, so those are not checked.
        """
        head, models = self.state.ray, self.settings.models
        if head is not None and ray_head.is_ready(head, self.home) and self.serve.has_application:
            new = self.serve_update().new_base_models()
            models = tuple(model for model in models if model.id in new)
        if models:
            self._check.run(self.settings.model_copy(update={"models": models}), report)
        for model in self.settings.models:
            if model.source.startswith("package:"):
                report(f"weights: {model.id} from {model.source}")
                prepare_weights(model, self._weights_directory)

    def deploy(self, report: Report, timeout_s: float) -> None:
        """Applies the settings file to the running instance, and remembers it.

        Raises:
            InstanceError: something cannot be deployed.
        """
        with locked_home(self.home):
            self._prepare(report)
            update = self.serve_update()
            update.submit()
            self._remembered.update(config=self.config)
            self.serve.wait_for(update, report, timeout_s)

    def down(self, report: Report = print) -> None:
        """Stops the processes that were started for this home. Data, keys and logs stay."""
        if not self.exists:
            return report(f"nothing was ever started for {self.home}")
        with locked_home(self.home):
            self._stop(report)

    def _stop(self, report: Report = print) -> None:
        self.monitoring.stop()
        if self.is_running:
            try:
                self.serve.client.delete_all()
                report("deployment: stopped")
            except InstanceError as error:
                report(f"deployment: could not be drained, stopping Ray under it ({error})")
        self._stop_ray()
        report("Ray: stopped")
        self.storage.stop()
        report("storage: stopped" if self.storage.is_own else "storage: left alone, it is not ours")

    def status(self) -> InstanceStatus:
        head = self.state.ray
        serve = ServeState()
        waits: tuple[Wait, ...] = ()
        if has_ray := head is not None and ray_head.is_ready(head, self.home):
            serve, waits = self.serve.state(), self.serve.client.waits()
        readiness = self.serve.readiness() if has_ray else Readiness(False, "Ray is not running")
        return InstanceStatus(
            storage=self.storage.state,
            ray=f"running, pid {head.process.pid}" if head is not None and has_ray else "stopped",
            applications=tuple(serve.applications.values()),
            waits=waits,
            is_ready=readiness.is_ready,
            detail=readiness.detail,
        )

    def _require_same_choices(self) -> None:
        """Raises InstanceError if Ray runs with another config or other ports, which it cannot change."""
        before = self.state
        chosen: tuple[Any, ...] = (self.config, self.http_port, self.dashboard_port)
        if self.is_running and chosen != (before.config, before.http_port, before.dashboard_port):
            running = (
                f"config {before.config}, port {before.http_port}, dashboard port {before.dashboard_port}"
            )
            raise InstanceError(
                f"this instance is up with {running}: `tiger deploy --config` changes the config of a "
                "running instance, and `tiger down` has to come before another port"
            )

    def _remember_choices(self) -> None:
        self._remembered.update(
            config=self.config, http_port=self.http_port, dashboard_port=self.dashboard_port
        )


def _absolute(config: str | None) -> str | None:
    """Makes a path absolute, because other processes have another working directory. A name is kept."""
    return str(Path(config).resolve()) if config and config.endswith((".yaml", ".yml")) else config
