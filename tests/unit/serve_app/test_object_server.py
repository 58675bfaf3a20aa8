import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from registry.client import build_client
from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.object_server import ObjectServer, ObjectServerFailed, stop
from tests.support.storage import free_port

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def server(tmp_path: Path) -> ObjectServer:
    return ObjectServer(tmp_path / "server", free_port())


@pytest.fixture
def start(server: ObjectServer) -> Iterator[Start]:
    """Starts the server; whatever was started is gone when the test is over."""
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
    assert (modes["credentials"], modes["jwt.json"], modes["data"]) == (0o600, 0o600, 0o700)
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


def test_unsigned_requests_are_refused_at_every_door(server: ObjectServer, start: Start) -> None:
    httpx = pytest.importorskip("httpx")
    process = start()
    store_in(server, "first").put("key", b"secret body")
    for connection in psutil.Process(process.pid).net_connections("inet"):
        if connection.status != psutil.CONN_LISTEN:
            continue
        for path in ("/first/key", "/buckets/first/key"):
            try:
                answer = httpx.get(f"http://127.0.0.1:{connection.laddr.port}{path}", timeout=5)
            except httpx.HTTPError:
                continue
            assert b"secret body" not in answer.content


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
