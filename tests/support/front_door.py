"""HAProxy as in an instance, with the configuration that Ray writes, in front of a server in this process."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import uvicorn
from ray.serve.config import HTTPOptions
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from serve_app.http_settings import HttpSettings
from serve_app.instance.haproxy import front_door_environment
from tests.support.ray_private import (
    BackendConfig,
    HAProxyConfig,
    ServerConfig,
    write_haproxy_configuration,
)
from tests.support.storage import free_port

SILENCE_S = 4.0
HALF_SENT = (
    b"",
    b"GET /hea",
    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{",
    b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n{",
)
"""The bytes that a client may have sent before it stops sending."""


def ray_configuration(directory: Path, port: int, server_port: int) -> Path:
    """The configuration file that Ray writes for an application with one replica."""
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        socket_path=str(directory / "admin"),
        server_state_base=str(directory),
        server_state_file=str(directory / "state"),
        metrics_socket_path=str(directory / "metrics"),
        has_received_routes=True,
        has_received_servers=True,
        is_head=True,
        nbthread=1,
    )
    server = ServerConfig(name="replica", host="127.0.0.1", port=server_port)
    backend = BackendConfig(name="http-tiger", path_prefix="/", app_name="tiger", servers=[server])
    path = directory / "haproxy.cfg"
    write_haproxy_configuration(config, backend, path)
    return path


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())} bytes")


async def _address(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.client.host if request.client else "")


async def _silent(request: Request) -> StreamingResponse:
    """Answer with a chunk, with nothing for SILENCE_S, and with another chunk."""
    await request.body()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"before "
        await asyncio.sleep(SILENCE_S)
        yield b"after"

    return StreamingResponse(chunks())


async def _endless(request: Request) -> StreamingResponse:
    """Answer with chunks until the client has left, and then make the file that the request names."""
    path = Path((await request.body()).decode().strip())

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more "
                await asyncio.sleep(0.05)
        finally:
            path.touch()  # noqa: ASYNC240

    return StreamingResponse(chunks())


@contextmanager
def _serving(port: int) -> Iterator[None]:
    async def ended(request: Request) -> PlainTextResponse:
        """Read the request and close all connections without an answer, as a process does that dies."""
        await request.body()
        for connection in server.server_state.connections:
            assert connection.transport is not None
            connection.transport.abort()
        return PlainTextResponse("")

    routes = [
        Route("/ended", ended, methods=["GET", "POST"]),
        Route("/silent", _silent, methods=["POST"]),
        Route("/address", _address),
        Route("/endless", _endless, methods=["POST"]),
        Route("/{path:path}", _answer, methods=["GET", "POST"]),
    ]
    config = uvicorn.Config(Starlette(routes=routes), port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def front_door(
    directory: Path, settings: HttpSettings, max_request_bytes: int = 2**20, with_server: bool = True
) -> Iterator[str]:
    """The address of a running HAProxy, with or without a server behind it."""
    port, server_port = free_port(), free_port()
    path = ray_configuration(directory, port, server_port)
    command = [
        sys.executable,
        "-c",
        "from serve_app.instance.haproxy import main; main()",
        "-db",
        "-f",
        str(path),
    ]
    own = front_door_environment(settings, max_request_bytes)
    process = subprocess.Popen(command, env={**os.environ, **own})
    try:
        if not with_server:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
            return
        with _serving(server_port):
            _wait_for(server_port, process)
            _wait_for(port, process)
            url = f"http://127.0.0.1:{port}"
            while httpx.get(f"{url}/ready", trust_env=False).status_code != 200:
                assert process.poll() is None
            yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError(f"HAProxy ended with {process.returncode}")


@contextmanager
def held(url: str, contents: list[bytes]) -> Iterator[list[socket.socket]]:
    """Connections that have each sent one of `contents`, and stay open."""
    address = httpx.URL(url).host, httpx.URL(url).port
    with ExitStack() as stack:
        connections = []
        for content in contents:
            connections.append(stack.enter_context(socket.create_connection(address, timeout=30)))
            connections[-1].sendall(content)
        yield connections
