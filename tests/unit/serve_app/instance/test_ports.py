"""Free ports are free, and the error for a taken port names it and says what to do."""

import socket

import pytest

from serve_app.instance.ports import LOOPBACK, PortTaken, free_ports, interface_of, is_free


@pytest.fixture
def taken_port() -> int:
    return free_ports(1)[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_somebody_listens_on_is_not_free(taken_port: int, host: str) -> None:
    with socket.create_server((host, taken_port)):
        assert not is_free(taken_port)
    assert is_free(taken_port)


def test_a_port_with_only_closed_connections_is_free(taken_port: int) -> None:
    with socket.create_server(("127.0.0.1", taken_port)) as server:
        client = socket.create_connection(server.getsockname())
        server.accept()[0].close()
        client.close()
    assert is_free(taken_port)


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


def test_a_taken_port_is_one_line_with_the_port_and_the_option() -> None:
    message = str(PortTaken(45678, "HTTP", "choose another with --port or TIGER_HTTP__PORT"))
    assert "45678" in message and "--port" in message and "TIGER_HTTP__PORT" in message
    assert "\n" not in message


def test_loopback_has_an_interface() -> None:
    assert interface_of(LOOPBACK) in {name for _, name in socket.if_nameindex()}
