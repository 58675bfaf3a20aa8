"""Layers between the HTTP server of a replica and Ray Serve make the outermost part of an answer.

    uvicorn -> InForm -> LazyBody -> Serve's request id -> Serve -> the application

Serve finds `http_layers` by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (instance.haproxy), and calls it in
every ingress replica, and in its own proxy, which answers while there is no replica.
"""

import asyncio
import logging
import re
import uuid
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.errors import plain_error
from serve_app.shared_tasks import is_being_cancelled

BODY_WANTED = "tiger.body_wanted"  # in the scope of a request: set it, and its body is read
REQUEST_ID = b"x-request-id"
REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
NOT_FOR_CLIENTS = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        b"x-session-id",
    }
)
"""Headers by which Serve is told how to treat a request; Serve would take them from anyone."""

logger = logging.getLogger("ray.serve")


def http_layers() -> list[Middleware]:
    """The last one is the outermost."""
    layers = [Middleware(InForm)]
    return [Middleware(LazyBody), *layers] if _is_replica() else layers


class LazyBody:
    """Reads nothing before the application asks for it.

    Serve reads ahead whatever a client sends, as fast as it is sent and without a bound, from everybody.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = scope[BODY_WANTED] = asyncio.Event()

        async def receive_when_wanted() -> Message:
            await wanted.wait()
            return await receive()

        await self._app(scope, receive_when_wanted, send)


class InForm:
    """Sees that there is an answer, that an error is in the form of the API, and that its id is harmless."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["headers"], request_id = _with_one_id(scope["headers"])
        answer, is_gone = _Answer(send, request_id), asyncio.Event()

        async def receive_and_note() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                is_gone.set()
            return message

        try:
            await self._app(scope, receive_and_note, answer.send)
        except (Exception, asyncio.CancelledError):
            if is_being_cancelled():
                raise
            if is_gone.is_set():
                return  # Serve stumbles over the calls that it cancels for such a request
            logger.exception("unexpected error")
        if not is_gone.is_set():
            await answer.complete()


class _Answer:
    """Passes an answer on, and replaces an error that is not JSON."""

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self._has_started = False
        self._is_replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_started = True
            if message["status"] >= 400 and not _is_json(message):
                self._is_replaced = True
                await self._send_error(message["status"])
        if not self._is_replaced:
            await self._send(message)

    async def complete(self) -> None:
        if not self._has_started:
            logger.error("a request got no answer")
            self._has_started = True
            await self._send_error(500)

    async def _send_error(self, status: int) -> None:
        body, headers = plain_error(status)
        response = JSONResponse(body, status, headers)
        start: dict[str, Any] = {"type": "http.response.start", "status": status}
        await self._send({**start, "headers": [*response.raw_headers, (REQUEST_ID, self._request_id)]})
        await self._send({"type": "http.response.body", "body": response.body, "more_body": False})


def _with_one_id(headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The client's id if it is one, else ours; without what is not for clients to say."""
    found = [value for name, value in headers if name == REQUEST_ID]
    is_good = len(found) == 1 and REQUEST_ID_PATTERN.fullmatch(found[0]) is not None
    request_id = found[0] if is_good else str(uuid.uuid4()).encode()
    others = [pair for pair in headers if pair[0] != REQUEST_ID and pair[0] not in NOT_FOR_CLIENTS]
    return [*others, (REQUEST_ID, request_id)], request_id


def _is_json(start: Message) -> bool:
    found = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return any(value.startswith(b"application/json") for value in found)


def _is_replica() -> bool:
    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return True
