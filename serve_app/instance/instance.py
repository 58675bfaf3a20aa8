"""An instance: one installation on one machine, with its home directory, its ports and its processes.

    up:    checks -> weights -> storage (SeaweedFS) -> Ray head -> Serve application -> /readyz
    down:  Serve application -> Ray head and all that it left behind -> storage

Each process that was started is written to `<home>/instance.json` at once. After any crash, the next command
therefore knows the processes of this instance. Two homes share only the converted weights.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry.keys import ApiKeys
from registry.store import ObjectStore
from serve_app.deployment_options import APPLICATION
from serve_app.instance import haproxy, ray_head
from serve_app.instance.application_start import ApplicationStart, Readiness, ask_readiness
from serve_app.instance.base_weights import is_repository
from serve_app.instance.chosen_ports import ChosenPorts
from serve_app.instance.deployment_check import DeploymentCheck
from serve_app.instance.environment import inherited_environment, path_with_own_programs
from serve_app.instance.file_lock import locked
from serve_app.instance.processes import MARKER, InstanceError, Report, marked_processes, stop_processes
from serve_app.instance.serve_client import ApplicationState, ServeClient, read_serve_config
from serve_app.instance.start_failure import StartWatch
from serve_app.instance.state import STATE_FILE, InstanceState, StateFile
from serve_app.instance.status import InstanceStatus
from serve_app.instance.storage import InstanceStorage
from serve_app.instance.weights import prepare_weights
from serve_app.settings import Settings, load_settings

SWEEP_GRACE_S = 5
DEFAULT_DASHBOARD_PORT = 8265
FIRST_USER = "demo"


class Instance:
    """One instance. It remembers `config` and the ports; None: the value of the last time, or the default."""

    def __init__(
        self,
        home: Path,
        config: str | None = None,
        http_port: int | None = None,
        dashboard_port: int | None = None,
        serve_config: Path | None = None,
        check: DeploymentCheck | None = None,
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
        self._serve_config = serve_config
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

    # Ray and Serve

    def environment(self) -> dict[str, str]:
        """Returns the environment of Ray's processes and of others that join them (`ray status`, a test)."""
        own = {
            MARKER: str(self.home),
            "PATH": path_with_own_programs(),
            **haproxy.front_door_environment(
                self.settings.http.model_copy(update={"port": self.http_port}),
                self.settings.ingress.max_request_bytes,
            ),
            "TIGER_WEIGHTS_DIRECTORY": str(self._weights_directory),
            # vLLM compiles kernels at each start, which takes most of a minute. The cache avoids that.
            "TORCHINDUCTOR_CACHE_DIR": str(self._weights_directory.parent / "inductor"),
        }
        if self.storage.is_own:
            own["TIGER_STORAGE__ENDPOINT_URL"] = str(self.storage.settings.endpoint_url)
            own["AWS_SHARED_CREDENTIALS_FILE"] = str(self.storage.credentials_path)
        if not any(is_repository(model.source) for model in self.settings.models):
            own["HF_HUB_OFFLINE"] = "1"
        if (head := self.state.ray) is not None:
            own |= ray_head.ray_environment(self.home, head.gcs_port)
        return inherited_environment(with_aws_identity=not self.storage.is_own) | own

    @property
    def _ports(self) -> ChosenPorts:
        return ChosenPorts(self.settings.http.host, self.http_port, self.dashboard_port)

    @property
    def _weights_directory(self) -> Path:
        return self.settings.weights_directory.expanduser()

    def _serve_client(self) -> ServeClient:
        return ServeClient(self.dashboard_port, self.token_path)

    def _is_ray_alive(self) -> bool:
        head = self.state.ray
        return head is not None and head.process.is_alive

    def _has_application(self) -> bool:
        """True if Serve has the application already, or is about to start it."""
        head = self.state.ray
        if head is None or not ray_head.is_ready(head, self.home):
            return False
        return self._serve_client().state(APPLICATION).status in ("RUNNING", "DEPLOYING")

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

    def _deploy(self, report: Report) -> None:
        client = self._serve_client()
        config = read_serve_config(self.config, haproxy.SERVE_HOST, self.http_port, self._serve_config)
        before = client.state(APPLICATION)
        if before.status in ("RUNNING", "DEPLOYING") and before.config == config["applications"][0]:
            return report("deployment: submitted before")
        if before.status == "DEPLOY_FAILED":
            # Otherwise Serve would report the old failure for a while, and keep the replicas of that attempt.
            client.delete_all()
        if not before.deployments:
            self._ports.require_free_http()
        client.deploy(config)
        report("deployment: submitted")

    def _wait_until_ready(self, report: Report) -> None:
        watch = StartWatch(ray_head.session_logs(self.home))
        ApplicationStart(self._serve_client(), watch, self._readiness, self._check_ray, report).wait()

    def _check_ray(self) -> None:
        if not self._is_ray_alive():
            raise InstanceError(f"Ray ended while the application was starting (log: {self.ray_log})")

    def _readiness(self) -> Readiness:
        return ask_readiness(self.url)

    # Commands

    def up(self, report: Report = print) -> str | None:
        """Starts everything that is not running. Returns a key for the first user if there is no key yet.

        Raises:
            InstanceError: something cannot be started. Processes that were started stay, so that the operator
                can look at them and call `up` again.
        """
        with self._locked():
            self._require_same_choices()
            was_running = self._is_ray_alive()
            if not was_running:
                self._stop_ray()
                self._ports.require_free()
            self._remember_choices()
            try:
                self._bring_up(report)
            except KeyboardInterrupt:
                if not was_running:
                    self._stop()
                raise
            keys = ApiKeys(self.store())
            return keys.create(FIRST_USER, "first") if keys.is_empty() else None

    def _bring_up(self, report: Report) -> None:
        if not self._has_application():
            self._check.run(self.settings, report)
        for model in self.settings.models:
            if model.source.startswith("package:"):
                report(f"weights: {model.id} from {model.source}")
                prepare_weights(model, self._weights_directory)
        self.storage.ensure(report, may_move=not self._is_ray_alive())
        self._ensure_ray(report)
        self._deploy(report)
        self._wait_until_ready(report)
        report(f"ready: {self.url}")

    def down(self, report: Report = print) -> None:
        """Stops the processes that were started for this home. Data, keys and logs stay."""
        if not self.exists:
            return report(f"nothing was ever started for {self.home}")
        with self._locked():
            self._stop(report)

    def _stop(self, report: Report = print) -> None:
        if self._is_ray_alive():
            try:
                self._serve_client().delete_all()
                report("deployment: stopped")
            except InstanceError as error:
                report(f"deployment: could not be drained, stopping Ray under it ({error})")
        self._stop_ray()
        report("Ray: stopped")
        self.storage.stop()
        report("storage: stopped" if self.storage.is_own else "storage: left alone, it is not ours")

    def status(self) -> InstanceStatus:
        head = self.state.ray
        application = ApplicationState()
        if has_ray := head is not None and ray_head.is_ready(head, self.home):
            application = self._serve_client().state(APPLICATION)
        readiness = self._readiness() if has_ray else Readiness(False, "Ray is not running")
        return InstanceStatus(
            storage=self.storage.state,
            ray=f"running, pid {head.process.pid}" if head is not None and has_ray else "stopped",
            application=application,
            is_ready=readiness.is_ready,
            detail=readiness.detail,
        )

    def _require_same_choices(self) -> None:
        """Raises InstanceError if Ray runs with another config or other ports, which it cannot change."""
        before = self.state
        chosen: tuple[Any, ...] = (self.config, self.http_port, self.dashboard_port)
        if self._is_ray_alive() and chosen != (before.config, before.http_port, before.dashboard_port):
            running = (
                f"config {before.config}, port {before.http_port}, dashboard port {before.dashboard_port}"
            )
            raise InstanceError(f"this instance is up with {running}: `tiger down` first to change that")

    def _remember_choices(self) -> None:
        self._remembered.update(
            config=self.config, http_port=self.http_port, dashboard_port=self.dashboard_port
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.home.chmod(0o700)
            taken = InstanceError(f"another `tiger up` or `tiger down` of {self.home} is at work")
            with locked(self.home / "lock", taken):
                yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            where = error.filename or self.home
            raise InstanceError(f"a disk is full ({where}): make room, then repeat the command") from error


def _absolute(config: str | None) -> str | None:
    """Makes a path absolute, because other processes have another working directory. A name is kept."""
    return str(Path(config).resolve()) if config and config.endswith((".yaml", ".yml")) else config
