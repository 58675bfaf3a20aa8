"""A proxy that makes storage unreachable in the middle of a write, or a service at any time."""

import contextlib
import socket
import threading


class Proxy:
    """A proxy in front of the object server, which breaks all connections at a write of models.json.

    `goes_dark` says when: with `before` the write never arrives; with `after` it is done, but its answer is
    lost. `light` ends the fault.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.goes_dark: str | None = None
        self._is_dark = False
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def light(self) -> None:
        self.goes_dark, self._is_dark = None, False

    def close(self) -> None:
        self.darken()
        self._listener.close()

    def darken(self) -> None:
        """Break all connections, and accept no other until `light` is called."""
        self._is_dark = True
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_dark:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._connections |= {client, server}
                is_write = threading.Event()
                threading.Thread(target=self._up, args=(client, server, is_write), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client, is_write), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, is_write: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(2**16):
                if data.startswith((b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")):
                    line = data.split(b"\r\n", 1)[0]
                    is_write.set() if b"PUT" in line and b"/models.json" in line else is_write.clear()
                if is_write.is_set() and self.goes_dark == "before":
                    self.darken()
                server.sendall(data)
        self._end(client, server)

    def _down(self, server: socket.socket, client: socket.socket, is_write: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(2**16):
                if is_write.is_set() and self.goes_dark == "after" and b"100 Continue" not in data:
                    self.darken()
                client.sendall(data)
        self._end(client, server)

    def _end(self, *connections: socket.socket) -> None:
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            self._connections.discard(connection)
