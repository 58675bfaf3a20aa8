"""An instance is refused a port that is taken, and the message names the port and the option."""

import socket
from collections.abc import Iterator

import pytest

from serve_app.instance.chosen_ports import ChosenPorts
from serve_app.instance.ports import PortTaken, free_ports
from serve_app.instance.processes import InstanceError
from serve_app.instance.ray_head import WORKER_PORTS

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_free_ports_are_accepted() -> None:
    ChosenPorts(HOST, *free_ports(2)).require_free()


def test_port_that_is_taken_is_named_with_its_option(taken: int) -> None:
    (free,) = free_ports(1)
    with pytest.raises(PortTaken, match=rf"port {taken} \(HTTP\).*--port"):
        ChosenPorts(HOST, taken, free).require_free()
    with pytest.raises(PortTaken, match=rf"port {taken} \(Ray dashboard\).*--dashboard-port"):
        ChosenPorts(HOST, free, taken).require_free()


def test_port_of_a_worker_is_refused_as_the_dashboard() -> None:
    (free,) = free_ports(1)
    with pytest.raises(InstanceError, match=f"port {WORKER_PORTS[0]}.*workers"):
        ChosenPorts(HOST, free, WORKER_PORTS[0]).require_free()
