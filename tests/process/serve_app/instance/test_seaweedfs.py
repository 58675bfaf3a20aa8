import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from registry.client import build_client
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.instance.seaweedfs import HOST, INNER_SERVERS, ObjectServer, ObjectServerFailed, stop
from tests.support.storage import free_port
from tests.support.stranger import (
    STRANGER,
    as_stranger,
    connects_to_socket,
    needs_a_stranger,
    run_as_stranger,
)
from tests.support.waiting import wait_until


def weed() -> str:
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"


Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def server(tmp_path: Path) -> ObjectServer:
    return ObjectServer(tmp_path / "server", free_port())


@pytest.fixture
def start(server: ObjectServer) -> Iterator[Start]:
    """A function that starts the server. Everything that it started is gone when the test is over."""
    started: list[subprocess.Popen[bytes]] = []

    def run() -> "subprocess.Popen[bytes]":
        started.append(server.start())
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            stop(process.pid)
            process.wait()


def store_in(server: ObjectServer, bucket: str) -> ObjectStore:
    settings = StorageSettings(endpoint_url=server.endpoint_url, bucket=bucket)
    store = ObjectStore(settings, partial(build_client, credentials_path=server.credentials_path))
    store.probe()
    return store


def test_kill_loses_nothing_on_the_same_and_on_other_ports(server: ObjectServer, start: Start) -> None:
    bodies: dict[str, bytes] = {}
    ports = server.directory / "ports.json"
    ports_before = ""
    for life in range(4):
        process = start()
        if life == 1:
            assert ports.read_text() == ports_before
        for bucket in ("first", f"bucket-of-life-{life}"):
            store_in(server, bucket).put(f"key{life}", os.urandom(5000))
        store = store_in(server, "first")
        bodies[f"key{life}"] = store.get(f"key{life}").body
        assert {key: store.get(key).body for key in store.list("key")} == bodies
        process.kill()
        process.wait()
        ports_before = ports.read_text()
        if life > 0:
            ports.unlink()


def test_secrets_are_private(server: ObjectServer, start: Start) -> None:
    process = start()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.directory.iterdir()}
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
    private = [modes[name] for name in ("credentials", "security.toml", "security.pem", "security.key")]
    assert (private, modes["data"]) == ([0o600] * 4, 0o700)
    command = " ".join(psutil.Process(process.pid).cmdline())
    for line in server.credentials_path.read_text().splitlines()[1:]:
        assert line.split(" = ")[1] not in command


def test_server_listens_on_the_loopback_only(server: ObjectServer, start: Start) -> None:
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(start().pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}


def test_every_door_but_s3_asks_for_the_certificate(server: ObjectServer, start: Start) -> None:
    process = psutil.Process(start().pid)
    # The last of its inner servers listens only a moment after the S3 server answers.
    wait_until(lambda: len(listening_ports(process)) == len(INNER_SERVERS) + 1, 20)
    store_in(server, "first").put("key", b"secret body")
    for path in ("/", "/first/key", "/buckets/first/key"):
        assert httpx.get(f"{server.endpoint_url}{path}", trust_env=False).status_code == 403
    for port in listening_ports(process):
        if port != server.port:
            assert_asks_for_a_certificate(port)


def listening_ports(process: psutil.Process) -> list[int]:
    found = [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
    return [each.laddr.port for each in found]


def assert_asks_for_a_certificate(port: int) -> None:
    """Assert that a TLS server refuses a client without a certificate before it says anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as secure,
        pytest.raises(ssl.SSLError, match="certificate"),
    ):
        secure.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert secure.recv(100) == b"", "an answer"


def test_no_secret_is_kept_from_one_start_to_the_next(server: ObjectServer, start: Start) -> None:
    contents = []
    for _ in range(2):
        process = start()
        contents.append({path.read_text() for path in server.directory.glob("security.*")})
        stop(process.pid)
        process.wait()
    assert len(contents[0]) == 3 and contents[0].isdisjoint(contents[1])


@needs_a_stranger
def test_another_user_of_the_machine_gets_nothing_and_changes_nothing(
    server: ObjectServer, start: Start, tmp_path: Path
) -> None:
    process = start()
    store = store_in(server, "first")
    store.put("keys/abc.json", b"secret body")
    ports = json.loads((server.directory / "ports.json").read_text())
    master, filer = (f"{HOST}:{ports[f'{it}.port']}.{ports[f'{it}.port.grpc']}" for it in ("master", "filer"))
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chown(directory, STRANGER.pw_uid, STRANGER.pw_gid)
        own = Path(directory)
        # The tree of a server that is the stranger's own, which a bucket without protection would take.
        shell = ["fs.ls /buckets/first/keys", "fs.cat /buckets/first/keys/abc.json", "volume.list"]
        shell += [f"fs.meta.save -o {own}/meta /buckets", f"fs.meta.load {own}/meta", "fs.rm -rf /buckets"]
        said = run_as_stranger(
            [weed(), "shell", f"-master={master}", f"-filer={filer}"], "\n".join(shell), 15
        )
        for volume in range(1, 8):
            backup = [f"-dir={own}", f"-volumeId={volume}", f"-master={master}"]
            said += run_as_stranger([weed(), "backup", "-collection=first", *backup], timeout_s=15)
        to = f"http://{HOST}:{ports['filer.port']}.{ports['filer.port.grpc']}/buckets/first/keys/"
        said += run_as_stranger([weed(), "filer.copy", "/etc/hostname", to], timeout_s=15)
        copied = [path.name for path in own.rglob("*") if path.stat().st_size > 0]
    assert "keys" not in said.replace(to, "") and "secret body" not in said and "DataNode" not in said
    assert copied == []
    assert {key: store.get(key).body for key in store.list("")} == {"keys/abc.json": b"secret body"}
    assert process.poll() is None


@needs_a_stranger
def test_another_user_of_the_machine_reaches_no_socket(server: ObjectServer, start: Start) -> None:
    connections = psutil.Process(start().pid).net_connections("unix")
    paths = {server.directory / str(it.laddr) for it in connections if it.laddr}
    assert {"filer.sock", "s3.sock"} < {path.name for path in paths}
    assert all(connects_to_socket(str(path)) for path in paths)
    assert as_stranger(lambda: [path for path in paths if connects_to_socket(str(path))]) == []


def test_start_says_why_it_failed(server: ObjectServer, start: Start) -> None:
    start()
    with pytest.raises(ObjectServerFailed, match="taken"):
        server.start()
    with pytest.raises(ObjectServerFailed, match="already runs"):
        ObjectServer(server.directory, free_port()).start()


def test_start_shows_the_log_of_a_server_that_exits(server: ObjectServer) -> None:
    server.directory.mkdir()
    (server.directory / "data").mkdir()
    (server.directory / "data" / "filerldb2").write_text("where weed wants a directory")
    with pytest.raises(ObjectServerFailed, match=r"(?s)exited with status .*log ends with:.*filerldb2"):
        server.start()


def test_stop_ends_the_process_and_only_it(server: ObjectServer, start: Start) -> None:
    process = start()
    assert os.getpgid(process.pid) == process.pid
    stop(process.pid)
    assert process.wait(0) is not None
    stop(process.pid)
    with subprocess.Popen(["sleep", "60"]) as other:
        stop(other.pid)
        assert other.poll() is None, "it does not lead a group: not one of ours"
        other.send_signal(signal.SIGKILL)
