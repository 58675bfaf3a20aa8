"""Reads the body of a request as JSON, and refuses a body that would be expensive to parse or to check.

    bytes  --count of values, depth-->  json.loads  -->  the route's types

Parsing blocks the event loop. A thread would not help, because parsing holds the interpreter too. Its cost
depends on the number of values, not of bytes: 8 MiB of text take some milliseconds, 8 MiB of `[],[],` more
than a second. Therefore the values and their depth are counted in the bytes first. Counting costs less than
reading the body.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from serve_app.wire.json_bounds import check_json


class BoundedRequest(Request):
    async def json(self) -> Any:
        """Returns the parsed body. Raises: InvalidRequest, and ValueError if the body is not JSON."""
        if not hasattr(self, "_json"):
            body = _in_utf8(await self.body())
            settings = self.app.state.backends.settings.ingress
            check_json(body, settings.max_request_values, settings.max_request_depth)
            self._json = json.loads(body)
        return self._json


def _in_utf8(body: bytes) -> bytes:
    """Returns the body in UTF-8. Its first bytes tell the encoding that it has. Raises: ValueError."""
    encoding = json.detect_encoding(body)
    return body.decode(encoding).encode() if encoding != "utf-8" else body


class BoundedRoute(APIRoute):
    """The route class of all routers that take bodies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            return await handle(BoundedRequest(request.scope, request.receive))

        return handle_bounded
