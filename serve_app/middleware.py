"""Plain ASGI around the routes: a limit on the size of a body, headers of every answer, keys made sure of."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import RequestTooLarge, TigerError
from serve_app.errors import ANSWER_HEADERS, KEY_CHECK, body_of, headers_of, status_of


class BodyLimit:
    """Refuses a body over `max_bytes`: by its announced length unread, else while it arrives."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await self._refusal()(scope, receive, send)
            return
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise self._error()
            return message

        await self._app(scope, counted, send)

    def _error(self) -> RequestTooLarge:
        return RequestTooLarge(f"the body is over {self._max_bytes} bytes")

    def _refusal(self) -> JSONResponse:
        error = self._error()
        return JSONResponse(body_of(error), status_of(error))


class AnswerHeaders:
    """Adds what a dependency left under ANSWER_HEADERS in the scope, to streams and errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(scope.get(ANSWER_HEADERS, {}))
            await send(message)

        await self._app(scope, receive, send_with_headers)


class KeyCheck:
    """Sends nothing before the task under KEY_CHECK in the scope has ended; what it raises is the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_checked(message: Message) -> None:
            await _check(scope)
            await send(message)

        try:
            await self._app(scope, receive, send_checked)
        except Exception:
            try:
                await _check(scope)
            except TigerError as refusal:
                answer = JSONResponse(body_of(refusal), status_of(refusal), headers_of(refusal))
                await answer(scope, receive, send)
            else:
                raise


async def _check(scope: Scope) -> None:
    check = scope.get(KEY_CHECK)
    if check is not None:
        await asyncio.shield(check)  # other requests with the key wait for it too
        scope[KEY_CHECK] = None  # a stream does not ask at every piece
