"""ASGI layers between the HTTP server of a replica and Ray Serve. They see every answer last.

    uvicorn -> InForm -> LazyBody -> Serve's request id -> Serve -> the application

Serve finds `http_layers` by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (instance.haproxy). Serve calls it in
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
from serve_app.deployment_options import INGRESS
from serve_app.shared_tasks import is_being_cancelled

BODY_WANTED = "tiger.body_wanted"  # an event in the scope of a request: the body is read after it was set
UNBUFFERED = "tiger.unbuffered"  # a `receive` in the scope of a request, for a body that Serve must not keep
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
"""Headers that tell Serve how to treat a request. They are removed, as Serve would obey any client."""

logger = logging.getLogger("ray.serve")


def http_layers() -> list[Middleware]:
    """Returns the layers; the last one is the outermost. The ingresses of others on this Ray get none."""
    try:
        deployment = serve.get_replica_context().deployment
    except RayServeException:  # Serve's own proxy
        return [Middleware(InForm)]
    # Nobody would set BODY_WANTED for the applications of others: they would wait for a body for ever.
    return [Middleware(LazyBody), Middleware(InForm)] if deployment == INGRESS else []


class LazyBody:
    """A layer that reads no body before the application asks for it.

    Without it, Serve reads whatever any client sends, without a bound and before the key is checked.

    Serve also reads a body that is wanted as fast as it comes, and keeps what the application has not read.
    An application that reads a large body calls the `receive` under UNBUFFERED instead. When it has all of
    the body, it sets BODY_WANTED, so that Serve notices that the client goes away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = scope[BODY_WANTED] = asyncio.Event()
        scope[UNBUFFERED] = receive

        async def receive_when_wanted() -> Message:
            await wanted.wait()
            return await receive()

        await self._app(scope, receive_when_wanted, send)


class InForm:
    """A layer that ensures that each request gets an answer, and each error has the form of the API.

    It also replaces a request id that could do harm.
    """

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
                return  # Serve raises errors about the calls that it cancels when a client goes away
            logger.exception("unexpected error")
        if not is_gone.is_set():
            await answer.complete()


class _Answer:
    """The answer to one request. It is passed on; an error that is not JSON is replaced."""

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
    """Returns the headers with one request id, and that id.

    A valid id of the client is kept. The headers in NOT_FOR_CLIENTS are left out.
    """
    found = [value for name, value in headers if name == REQUEST_ID]
    is_good = len(found) == 1 and REQUEST_ID_PATTERN.fullmatch(found[0]) is not None
    request_id = found[0] if is_good else str(uuid.uuid4()).encode()
    others = [pair for pair in headers if pair[0] != REQUEST_ID and pair[0] not in NOT_FOR_CLIENTS]
    return [*others, (REQUEST_ID, request_id)], request_id


def _is_json(start: Message) -> bool:
    found = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return any(value.startswith(b"application/json") for value in found)
