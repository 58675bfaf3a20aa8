"""Connections of which a test writes and reads the bytes itself."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.support.account import Account
from tests.support.service import Service

TIMEOUT_S = 30


class Answer:
    """One response, which is read from `file` to its end and no further."""

    def __init__(self, file: Any) -> None:
        self.status = int(file.readline().split()[1])
        lines = iter(file.readline, b"\r\n")
        pairs = (line.decode().partition(":") for line in lines)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        if "content-length" in self.headers:
            self.body = file.read(int(self.headers["content-length"]))
        elif self.headers.get("transfer-encoding") == "chunked":
            self.body = b"".join(iter(lambda: self._chunk(file), b""))
        else:
            self.body = b"" if self.status == 100 else file.read()

    @staticmethod
    def _chunk(file: Any) -> bytes:
        content: bytes = file.read(int(file.readline(), 16))
        file.readline()
        return content


class Connection:
    def __init__(self, service: Service) -> None:
        address = urlsplit(service.url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Answer:
        return Answer(self.file)

    def is_closed(self) -> bool:
        """Waits until the server has sent something more, or closed."""
        try:
            return not self.file.read(1)
        except ConnectionResetError:
            return True

    def vanish(self) -> None:
        """Close as a client whose machine is unplugged: with a reset and not with an end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@contextmanager
def connected(service: Service) -> Iterator[Connection]:
    connection = Connection(service)
    try:
        yield connection
    finally:
        connection.close()


def head(account: Account, *headers: str, path: str = "/v1/generate_response", method: str = "POST") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: tiger",
        f"Authorization: Bearer {account.key}",
        "Content-Type: application/json",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def request(account: Account, body: bytes, *headers: str, path: str = "/v1/generate_response") -> bytes:
    return head(account, f"Content-Length: {len(body)}", *headers, path=path) + body
