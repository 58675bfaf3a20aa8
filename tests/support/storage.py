"""A real object server for a test session, and a separate store for every test."""

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.settings import StorageSettings
from registry.store import ObjectStore
from serve_app.instance.seaweedfs import ObjectServer, stop


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    server = ObjectServer(tmp_path_factory.mktemp("object-server") / "server", free_port())
    process = server.start()
    yield server
    stop(process.pid)
    process.wait()


@pytest.fixture
def storage_credentials(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let AWS clients of this test find the server's credentials, and no others."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(object_server.credentials_path))
    return object_server.credentials_path


@pytest.fixture
def storage_settings(object_server: ObjectServer, storage_credentials: Path) -> StorageSettings:
    """The settings of a test's store: all tests share a bucket, and each has its own prefix."""
    return StorageSettings(
        endpoint_url=object_server.endpoint_url, bucket="tests", prefix=f"{secrets.token_hex(8)}/"
    )


@pytest.fixture
def store(storage_settings: StorageSettings) -> ObjectStore:
    store = ObjectStore(storage_settings)
    store.probe()
    return store
