"""Two ends of a connection with Python's own TLS, which accept each other by the certificate or do not."""

import ssl
from pathlib import Path

import pytest

from serve_app.instance.certificates import make_certificate


def context(directory: Path, purpose: int, own: str, trusted: str) -> ssl.SSLContext:
    result = ssl.SSLContext(purpose)
    result.load_cert_chain(directory / f"{own}.pem", directory / f"{own}.key")
    result.load_verify_locations(directory / f"{trusted}.pem")
    result.verify_mode = ssl.CERT_REQUIRED
    return result


def shake_hands(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    server.write(b"x")
    assert client.read() == b"x"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("ours", "theirs"):
        certificate, key = make_certificate(name, "127.0.0.1")
        (tmp_path / f"{name}.pem").write_bytes(certificate)
        (tmp_path / f"{name}.key").write_bytes(key)
    return tmp_path


def test_ends_with_the_same_certificate_know_each_other(directory: Path) -> None:
    client = context(directory, ssl.PROTOCOL_TLS_CLIENT, "ours", "ours")
    shake_hands(client, context(directory, ssl.PROTOCOL_TLS_SERVER, "ours", "ours"))


def test_a_client_or_a_server_with_another_certificate_is_refused(directory: Path) -> None:
    server = context(directory, ssl.PROTOCOL_TLS_SERVER, "ours", "ours")
    with pytest.raises(ssl.SSLError, match=r"verify failed|unknown ca"):
        shake_hands(context(directory, ssl.PROTOCOL_TLS_CLIENT, "theirs", "ours"), server)
    with pytest.raises(ssl.SSLError, match="verify failed"):
        shake_hands(context(directory, ssl.PROTOCOL_TLS_CLIENT, "ours", "theirs"), server)
