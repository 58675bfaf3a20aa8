"""The storage of an instance: SeaweedFS under its home, or the endpoint that the settings name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from registry.client import build_client
from registry.errors import Unavailable
from registry.layout import BucketLayout
from registry.settings import StorageSettings
from registry.store import ObjectStore, StorageUnfit
from serve_app.instance import seaweedfs
from serve_app.instance.base_weights import free_bytes
from serve_app.instance.ports import free_ports, is_free
from serve_app.instance.processes import InstanceError, Report, identify, processes_with, stop_processes
from serve_app.instance.seaweedfs import ObjectServer, ObjectServerFailed
from serve_app.instance.state import StateFile

STOP_GRACE_S = 5
MIN_FREE_BYTES = 64 * 2**20
"""With less space on its disk, our own storage counts as full: a single training writes as much."""


class InstanceStorage:
    def __init__(
        self,
        home: Path,
        settings: StorageSettings,
        remembered: StateFile,
        free_bytes: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._directory = home / "storage"
        self._settings = settings
        self._remembered = remembered
        self._free_bytes = free_bytes

    @property
    def is_own(self) -> bool:
        """True if the instance starts and stops the storage. Otherwise the settings name its endpoint."""
        return self._settings.endpoint_url is None

    @property
    def settings(self) -> StorageSettings:
        """The settings with the endpoint that clients use."""
        if not self.is_own:
            return self._settings
        return self._settings.model_copy(update={"endpoint_url": self._server().endpoint_url})

    @property
    def credentials_path(self) -> Path:
        return self._server().credentials_path

    @property
    def log(self) -> Path:
        return self._directory / "weed.log"

    @property
    def is_running(self) -> bool:
        process = self._remembered.read().storage
        return not self.is_own or (process is not None and process.is_alive)

    @property
    def state(self) -> str:
        """The state in words, for the operator."""
        if not self.is_running:
            return "stopped"
        return f"running at {self.settings.endpoint_url}{', but its disk is full' if self.is_full else ''}"

    @property
    def is_full(self) -> bool:
        """True if our own storage has no room to write. The disks of another one cannot be seen from here."""
        return self.is_own and self._free_bytes(self._directory) < MIN_FREE_BYTES

    def store(self) -> ObjectStore:
        """Returns the bucket. Our own storage uses the generated credentials."""
        if not self.is_own:
            return ObjectStore(self._settings)
        if not self.is_running:
            raise InstanceError("storage is not running: `tiger up` starts it")
        return ObjectStore(self.settings, partial(build_client, credentials_path=self.credentials_path))

    def ensure(self, report: Report, may_move: bool) -> None:
        """Starts the storage, unless it works, and opens the bucket.

        `may_move`: no process uses its port, so it may change. A storage whose disk is full is left as it is:
        it still answers what only reads, and no new one could start in its place.
        """
        self._start(report, may_move)
        try:
            BucketLayout(self.store()).open()
        except (Unavailable, StorageUnfit) as error:
            raise InstanceError(f"storage: {error}") from error

    @contextmanager
    def started(self, report: Report) -> Iterator[ObjectStore]:
        """Yields the bucket, as it is. Storage that did not run before is stopped after the block."""
        was_running = self.is_running
        try:
            self._start(report, may_move=True)
            yield self.store()
        finally:
            if not was_running:
                self.stop()

    def _start(self, report: Report, may_move: bool) -> None:
        if not self.is_own:
            if problem := self._problem():
                raise InstanceError(f"storage at {self._settings.endpoint_url}: {problem}")
            return report(f"storage: {self._settings.endpoint_url}, as the settings say")
        if self.is_running and self._problem() is None:
            return report(f"storage: running at {self.settings.endpoint_url}")
        if self.is_full:
            raise InstanceError(
                f"storage: fewer than {MIN_FREE_BYTES // 2**20} MiB are free on the disk of "
                f"{self._directory}: make room there, then `tiger up` again"
            )
        self.stop()
        port = self._remembered.read().storage_port
        if port is None or (may_move and not is_free(port)):
            self._remembered.update(storage_port=free_ports(1)[0])
        try:
            process = self._server().start()
        except ObjectServerFailed as error:
            raise InstanceError(f"storage: {error}") from error
        self._remembered.update(storage=identify(process))
        if problem := self._problem():
            raise InstanceError(f"storage: {problem} (log: {self.log})")
        report(f"storage: started at {self.settings.endpoint_url}")

    def stop(self) -> None:
        if not self.is_own:
            return
        process = self._remembered.read().storage
        if process is not None and process.is_alive:
            seaweedfs.stop(process.pid)
        # An `up` may have started one and died before it could store its id.
        stop_processes(processes_with("HOME", str(self._directory)), STOP_GRACE_S)
        self._remembered.update(storage=None)

    def _server(self) -> ObjectServer:
        return ObjectServer(self._directory, self._remembered.read().storage_port or 0)

    def _problem(self) -> str | None:
        try:
            self.store().probe()
        except (Unavailable, StorageUnfit) as error:
            return str(error)
        return None
