"""The whole instance as another user of its machine finds it: ports, sockets and files."""

import ipaddress
import os
import stat
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app import ray_head
from serve_app.processes import marked_processes, processes_with
from tests.support.doors import Door, Refusal, doors_of, figures, what_a_stranger_gets
from tests.support.stranger import as_stranger, connects_to_socket, needs_a_stranger
from tests.support.system import Client, System

REWARDS = {"Water is wet.": 1.0, "No.": 0.0}
TRAINING_WORKER = "ray::RayTrainWorker"


def processes_of(system: System) -> list[psutil.Process]:
    instance = system.instance
    weed = processes_with("HOME", str(instance.home / "storage"))
    return [*marked_processes(instance.home), *weed]


@pytest.fixture(scope="module")
def doors(system: System) -> set[Door]:
    """Seen while both base models train, one with a single worker and one with two."""
    client = system.client("machine")
    client.create("Alone")
    client.create("Together", parent="twin")
    client.greedy("alone", "Is water wet?", 4)
    trainings = [
        threading.Thread(target=client_train, args=(client, model)) for model in ("alone", "together")
    ]
    for training in trainings:
        training.start()
    found: set[Door] = set()
    while any(training.is_alive() for training in trainings):
        found |= doors_of(processes_of(system))
        time.sleep(0.5)
    return found | doors_of(processes_of(system))


def client_train(client: Client, model: str) -> None:
    client.train(model, "Is water wet?", REWARDS, learning_steps=2)


def test_every_port_is_on_loopback(doors: set[Door]) -> None:
    """The API's too: configs/test.yaml says nothing of `http.host`."""
    assert [door for door in doors if not ipaddress.ip_address(door.address).is_loopback] == []


def test_a_stranger_gets_nothing_at_any_port(system: System, doors: set[Door]) -> None:
    storage_port = system.instance.state.storage_port
    open_doors = []
    for door in doors & doors_of(processes_of(system)):
        refusal = what_a_stranger_gets(door.port)
        if refusal is Refusal.FIGURES:
            assert "machine" not in figures(door.port), "the name of a user"
        elif refusal is Refusal.SILENT and TRAINING_WORKER in door.command:
            # gloo takes a connection only from who knows the names in the workers' private file.
            continue
        elif refusal is Refusal.OPEN and is_the_api(door.port):
            continue
        elif refusal not in (Refusal.CERTIFICATE, Refusal.TOKEN):
            open_doors.append((door, refusal))
    assert open_doors == []
    assert storage_port in {door.port for door in doors}


def is_the_api(port: int) -> bool:
    """HAProxy, Serve's own proxy, or a replica of the ingress: all ask for the key of a user."""
    try:
        models = httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False)
        healthy = httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
    except httpx.HTTPError:
        return False
    return (models.status_code, healthy.status_code) == (401, 200) and (
        models.json()["error"]["code"] == "invalid_api_key"
    )


def test_a_lone_training_worker_has_no_rendezvous(system: System, doors: set[Door]) -> None:
    """Ray's own port aside, a worker that has nobody to talk to listens nowhere."""
    workers = [door for door in doors if TRAINING_WORKER in door.command]
    others = [door for door in workers if what_a_stranger_gets(door.port) is not Refusal.TOKEN]
    # gloo of the two workers of the other model.
    assert len(others) <= 2, others


@needs_a_stranger
def test_a_stranger_reaches_no_socket(system: System) -> None:
    paths = set()
    for process in processes_of(system):
        try:
            names = {it.laddr for it in process.net_connections("unix") if it.laddr}
            # An abstract socket has no directory that keeps anybody out.
            assert not any(name.startswith(("\0", "@")) for name in names), process.cmdline()
            paths |= {name if name.startswith("/") else f"{process.cwd()}/{name}" for name in names}
        except psutil.NoSuchProcess:
            continue
    existing = [path for path in sorted(paths) if os.path.exists(path)]
    assert len(existing) > 10
    assert as_stranger(lambda: [path for path in existing if not is_kept_out(path)]) == []


def is_kept_out(path: str) -> bool:
    try:
        return not connects_to_socket(path)
    except OSError:
        return False


@needs_a_stranger
def test_a_stranger_reads_no_file(system: System) -> None:
    home = system.instance.home
    for directory in (home, ray_head.private_directory(home)):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert as_stranger(lambda directory=directory: readable(directory)) is False
    assert any(ray_head.private_directory(home).rglob("*.log"))


def readable(directory: Path) -> bool:
    try:
        os.listdir(directory)
    except PermissionError:
        return False
    return True
