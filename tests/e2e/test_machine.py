"""The ports, sockets and files of an instance, as another user of its machine finds them, and its network."""

import ipaddress
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from serve_app.instance import ray_head
from serve_app.instance.processes import marked_processes, processes_with
from tests.support.doors import Door, Refusal, doors_of, figures, what_strangers_get
from tests.support.loopback import failed_attempts, require_loopback
from tests.support.stranger import as_stranger, connects_to_socket, needs_a_stranger
from tests.support.system import Client, System

REWARDS = {"Water is wet.": 1.0, "No.": 0.0}
TRAINING_WORKER = "ray::RayTrainWorker"
SPEAKS_GLOO = re.compile(r"^(VLLM::Worker|ray::RayTrainWorker)")


def processes_of(system: System) -> list[psutil.Process]:
    instance = system.instance
    weed = processes_with("HOME", str(instance.home / "storage"))
    return [*marked_processes(instance.home), *weed]


class Seen(NamedTuple):
    """The doors that were seen, and the number of attempts to reach another machine."""

    doors: set[Door]
    num_attempts: int


@pytest.fixture(scope="module")
def seen(system: System) -> Seen:
    """Observe the instance while both base models train, one with one worker and one with two."""
    attempts_before = failed_attempts()
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
    found |= doors_of(processes_of(system))
    return Seen(found, failed_attempts() - attempts_before)


@pytest.fixture(scope="module")
def doors(seen: Seen) -> set[Door]:
    return seen.doors


def client_train(client: Client, model: str) -> None:
    client.train(model, "Is water wet?", REWARDS, learning_steps=2)


def test_no_other_machine_is_asked_for_anything(seen: Seen) -> None:
    """Private models were made, answered and were trained where there is only loopback."""
    require_loopback()
    assert seen.num_attempts == 0


def test_every_port_is_on_loopback(doors: set[Door]) -> None:
    """The API's port is too, because configs/test.yaml does not set `http.host`."""
    assert [door for door in doors if not ipaddress.ip_address(door.address).is_loopback] == []


def test_a_stranger_gets_nothing_at_any_port(system: System, doors: set[Door]) -> None:
    client = system.client("bystander")
    before = client.greedy("smollm2-135m", "Is water wet?", 4)["message"]
    open_doors = []
    refusals = what_strangers_get(doors & doors_of(processes_of(system)))
    still_open = {door.port for door in doors_of(processes_of(system))}
    for door, refusal in refusals.items():
        if door.port not in still_open:
            # Its process ended with the training meanwhile, perhaps before it could answer.
            continue
        if refusal is Refusal.FIGURES:
            assert "bystander" not in figures(door.port), "the name of a user"
        elif refusal is Refusal.SILENT and SPEAKS_GLOO.search(door.command):
            # It takes a connection only while it waits for a fellow, and all have found each other.
            continue
        elif refusal not in (Refusal.CERTIFICATE, Refusal.TOKEN):
            open_doors.append((refusal, door))
    assert open_doors == []
    assert client.greedy("smollm2-135m", "Is water wet?", 4)["message"] == before


def test_a_training_worker_listens_to_ray_and_to_its_fellows_only(doors: set[Door]) -> None:
    """Ray names a worker by its current work, so one port has several names.

    Each worker has one port for Ray.
    """
    workers = {door.port for door in doors if TRAINING_WORKER in door.command}
    assert len([port for port in workers if port not in ray_head.WORKER_PORTS]) <= 2


@needs_a_stranger
def test_a_stranger_reaches_no_socket(system: System) -> None:
    paths: set[str] = set()
    for process in processes_of(system):
        try:
            names = {str(it.laddr) for it in process.net_connections("unix") if it.laddr}
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
