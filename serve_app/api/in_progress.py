"""Ends requests that are in progress with an error, from outside of their own task.

    key revoked, base model gone  ->  InProgress.end(error)  ->  Endings: work cancelled, error sent

If nothing has been sent yet, the error is the answer. In a stream the error is the last piece.
"""

import asyncio
import logging
from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import TigerError
from serve_app.api.errors import error_response
from serve_app.api.streams import is_last_piece, is_stream, last_piece
from serve_app.remote_errors import as_tiger_error
from serve_app.shared_tasks import is_being_cancelled

IN_PROGRESS = "tiger.in_progress"  # in the scope of a request

logger = logging.getLogger("ray.serve")


class InProgress:
    """A request in progress. `end` may be called at any time, also after the request is over."""

    def __init__(self) -> None:
        self.error: TigerError | None = None
        self.is_answered = False
        self._timeout = asyncio.timeout(None)
        self._is_over = False

    def end(self, error: TigerError) -> None:
        if self.error is None and not self._is_over:
            self.error = error
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Returns when the request is over or was ended. If it was ended, `error` is set."""
        try:
            async with self._timeout:
                try:
                    await app(scope, receive, send)
                finally:
                    self._is_over = True
        except TimeoutError:
            if self.error is None:
                raise


current: ContextVar[InProgress] = ContextVar("current")
"""The request that the current task answers."""


class Endings:
    """A middleware that sends the error of a request that was ended.

    If a call that the request waits for is cancelled from elsewhere, the request ends with an error too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = scope[IN_PROGRESS] = InProgress()
        current.set(request)
        answer = _Answer(request, send)
        try:
            await request.run(self._app, scope, receive, answer.send)
            error = request.error
        except asyncio.CancelledError as cancelled:
            if is_being_cancelled():
                raise
            error = as_tiger_error(cancelled)
        if error is not None:
            await answer.end_with(error, scope, receive)


class _Answer:
    """The answer to one request, as far as it has been sent."""

    def __init__(self, request: InProgress, send: Send) -> None:
        self._request = request
        self._send = send
        self._media_type = ""
        self._last = b""
        self._is_complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._request.is_answered = True
            self._media_type = Headers(raw=message["headers"]).get("content-type", "")
        elif message["type"] == "http.response.body":
            self._last = message.get("body") or self._last
            self._is_complete = not message.get("more_body", False)
        await self._send(message)

    async def end_with(self, error: TigerError, scope: Scope, receive: Receive) -> None:
        if self._is_complete:
            return
        if not self._request.is_answered:
            await error_response(error)(scope, receive, self._send)
            return
        if not is_stream(self._media_type):
            logger.warning("an answer was broken off: %s", error.code)
            return  # the client notices that the end is missing
        last = b"" if is_last_piece(self._media_type, self._last) else last_piece(self._media_type, error)
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
