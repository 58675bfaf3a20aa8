"""The decisions of an instance that start nothing: choices, environment, claims on ports and homes."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.render import DIRECTORY
from serve_app.instance import ray_head
from serve_app.instance.deployment_check import DeploymentCheck
from serve_app.instance.instance import Instance
from serve_app.instance.ports import PortTaken, free_ports, interface_of
from serve_app.instance.processes import MARKER, InstanceError, identify, start_process
from serve_app.instance.ray_head import RayHead


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIGER_")]:
        monkeypatch.delenv(name)


def quiet(line: str) -> None:
    """A report that nobody reads."""


def write_state(instance: Instance, **state: object) -> None:
    instance.home.mkdir(parents=True, exist_ok=True)
    (instance.home / "instance.json").write_text(json.dumps(state))


def test_defaults_are_those_of_the_readme(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    assert (instance.config, instance.http_port, instance.dashboard_port) == ("local", 45678, 8265)


def test_choices_are_remembered_and_an_explicit_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(Instance(tmp_path), config="local", http_port=8001, dashboard_port=8002)
    assert (Instance(tmp_path).http_port, Instance(tmp_path).dashboard_port) == (8001, 8002)
    monkeypatch.setenv("TIGER_HTTP__PORT", "8003")
    assert Instance(tmp_path).http_port == 8003
    assert Instance(tmp_path, http_port=8004).http_port == 8004


def test_a_state_file_that_was_cut_short_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "instance.json").write_text('{"config": "lo')
    assert Instance(tmp_path).http_port == 45678


def test_two_homes_share_no_directory_and_no_token(tmp_path: Path) -> None:
    one, two = Instance(tmp_path / "one"), Instance(tmp_path / "two")
    for instance in (one, two):
        instance.home.mkdir()
    directories = [ray_head.ray_directory(instance.home) for instance in (one, two)]
    assert directories[0] != directories[1]
    assert one.token_path.read_text() != two.token_path.read_text()
    assert one.token_path.stat().st_mode & 0o077 == 0
    assert one.environment()[MARKER] != two.environment()[MARKER]


def test_connections_between_processes_of_vllm_and_torch_stay_on_loopback(tmp_path: Path) -> None:
    environment = ray_head.ray_environment(tmp_path, 1)
    assert environment["VLLM_HOST_IP"] == "127.0.0.1"
    assert environment["GLOO_SOCKET_IFNAME"] == environment["NCCL_SOCKET_IFNAME"] == interface_of("127.0.0.1")
    assert environment["NCCL_RAS_ENABLE"] == "0"


def test_sockets_of_ray_fit_even_below_a_long_home(tmp_path: Path) -> None:
    directory = ray_head.ray_directory(tmp_path / ("long" * 40))
    socket_path = directory / "session_2026-11-23_04-29-22_408859_4194304" / "sockets" / "plasma_store.1"
    assert len(str(socket_path)) <= 107


def test_a_directory_others_can_write_to_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "private"
    ray_head.ensure_private(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    directory.chmod(0o777)
    with pytest.raises(InstanceError, match="not a private directory"):
        ray_head.ensure_private(directory)


def test_the_environment_leads_to_our_own_storage_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = {"RAY_ADDRESS": "elsewhere:6379", "AWS_ACCESS_KEY_ID": "mine", "TIGER_API_KEY": "secret"}
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "intranet")
    monkeypatch.setenv("PATH", "/usr/bin")
    write_state(Instance(tmp_path), storage_port=20001)

    environment = Instance(tmp_path, http_port=8000).environment()

    assert not foreign.keys() & environment.keys()
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert environment["TIGER_HTTP__PORT"] == "8000"
    assert environment["TIGER_STORAGE__ENDPOINT_URL"] == "http://127.0.0.1:20001"
    assert environment["AWS_SHARED_CREDENTIALS_FILE"].startswith(str(tmp_path))
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_storage_of_somebody_else_keeps_its_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIGER_STORAGE__ENDPOINT_URL", "https://storage.example")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    environment = Instance(tmp_path).environment()
    assert environment["AWS_ACCESS_KEY_ID"] == "mine"
    assert "AWS_SHARED_CREDENTIALS_FILE" not in environment.keys() - os.environ.keys()


@pytest.mark.parametrize(("index", "option"), [(0, "--port"), (1, "--dashboard-port")])
def test_up_names_the_port_that_is_taken_and_starts_nothing(tmp_path: Path, index: int, option: str) -> None:
    ports = free_ports(2)
    taken = socket.create_server(("127.0.0.1", ports[index]))
    with taken, pytest.raises(PortTaken, match=rf"{ports[index]}.*{option}"):
        Instance(tmp_path, http_port=ports[0], dashboard_port=ports[1]).up(quiet)
    assert not (tmp_path / "storage").exists()


def test_up_refuses_a_dashboard_port_that_ray_gives_its_workers(tmp_path: Path) -> None:
    with pytest.raises(InstanceError, match=r"10300.*--dashboard-port"):
        Instance(tmp_path, http_port=free_ports(1)[0], dashboard_port=10300).up(quiet)
    assert not (tmp_path / "storage").exists()


def test_down_of_a_home_that_was_never_up_does_nothing(tmp_path: Path) -> None:
    Instance(tmp_path / "never").down(quiet)
    assert not (tmp_path / "never").exists()


def test_down_stops_what_carries_the_marker_and_spares_a_stale_id(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    bystander = subprocess.Popen(sleeper)
    engine = start_process(sleeper, {**os.environ, MARKER: str(tmp_path)}, tmp_path / "log")
    reused = identify(bystander).model_copy(update={"started": "an-earlier-boot/1"})
    head = RayHead(process=reused, gcs_port=1, dashboard_port=1)
    write_state(Instance(tmp_path), ray=head.model_dump(), storage=reused.model_dump())

    Instance(tmp_path).down(quiet)

    assert not engine.is_alive
    assert bystander.poll() is None
    assert Instance(tmp_path).state.ray is None
    bystander.kill()
    bystander.wait()


def test_two_commands_at_once_on_one_home(tmp_path: Path) -> None:
    write_state(Instance(tmp_path))
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InstanceError, match="at work"):
            Instance(tmp_path).down(quiet)


def test_up_starts_nothing_that_this_machine_cannot_serve(tmp_path: Path) -> None:
    http_port, dashboard_port = free_ports(2)
    check = DeploymentCheck(read_build=lambda: "gpu")
    instance = Instance(tmp_path, "local", http_port, dashboard_port, check=check)
    with pytest.raises(InstanceError, match="PROFILE=cpu"):
        instance.up(quiet)
    assert instance.state.ray is None
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize("name", ["local", "gpu", "one-gpu"])
def test_serve_accepts_the_rendered_files_as_they_are(name: str) -> None:
    """Serve keeps a config without defaults. `tiger deploy` compares it with what it asks."""
    from ray.serve.schema import ServeDeploySchema

    asked = yaml.safe_load((DIRECTORY / f"serve.{name}.yaml").read_text())
    assert ServeDeploySchema.model_validate(asked).model_dump(exclude_unset=True) == asked


def test_full_disk_of_the_home_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "instance.partial").symlink_to("/dev/full")
    instance = Instance(tmp_path, http_port=free_ports(1)[0], dashboard_port=free_ports(1)[0])
    with pytest.raises(InstanceError, match=r"a disk is full .*: make room, then repeat the command"):
        instance.up(quiet)
