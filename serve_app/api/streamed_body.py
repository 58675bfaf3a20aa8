"""The body of a request that goes to the application in pieces, as the application asks for them.

Each piece is read only when it is wanted, and nothing is kept: a client that sends faster than the
application reads has to wait. The size and the time of the whole body are bounded.
"""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import RequestTimeout, RequestTooLarge
from serve_app.api.http_server import BODY_WANTED, UNBUFFERED


class ClientGone(Exception):
    """The client went away before its body had arrived."""


class StreamedBody:
    """The body of one request.

    `receive` raises: RequestTooLarge, RequestTimeout, ClientGone.
    """

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int, timeout_s: float) -> None:
        self._scope = scope
        self._read = scope.get(UNBUFFERED, receive)
        self._receive_after = receive
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._deadline_s = asyncio.get_running_loop().time() + timeout_s
        self._num_bytes = 0
        self._has_ended = not has_body(scope)

    async def pass_to(self, app: ASGIApp, send: Send) -> None:
        """Calls the application. If it does not read the whole body, its answer closes the connection.

        The rest of the body would otherwise be read as the next request.
        """

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start" and not self._has_ended:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        if self._has_ended:
            self._want_the_end()
        await app(self._scope, self.receive, send_last)

    async def receive(self) -> Message:
        if self._has_ended:
            return await self._receive_after()
        try:
            async with asyncio.timeout_at(self._deadline_s):
                message = await self._read()
        except TimeoutError:
            raise RequestTimeout(f"the body did not arrive within {self._timeout_s:g} s") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._num_bytes += len(message.get("body", b""))
        require_size(self._num_bytes, self._max_bytes)
        if not message.get("more_body", False):
            self._has_ended = True
            self._want_the_end()
        return message

    def _want_the_end(self) -> None:
        """Lets Serve notice from now on that the client goes away."""
        if BODY_WANTED in self._scope:
            self._scope[BODY_WANTED].set()


def has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def announced_bytes(scope: Scope) -> int:
    """Returns the size that the head of the request announces, or 0."""
    announced = Headers(scope=scope).get("content-length", "")
    return int(announced) if announced.isdigit() else 0


def require_size(num_bytes: int, max_bytes: int) -> None:
    """Raises: RequestTooLarge."""
    if num_bytes > max_bytes:
        raise RequestTooLarge(f"the body is over {max_bytes} bytes")
