"""A request's body as JSON: what would be dear to parse or to check is refused before it is parsed.

    bytes  --count of values, depth-->  json.loads  -->  the route's types

Parsing holds the event loop, and no thread would help: it holds the interpreter too. Its cost is that of the
values, not of the bytes: 8 MiB of text take some milliseconds, 8 MiB of `[],[],` more than a second. So the
values and how deep they lie are counted in the bytes first, which costs less than reading them did.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from serve_app.wire.json_bounds import check_json


class BoundedRequest(Request):
    async def json(self) -> Any:
        """Raises: InvalidRequest, and ValueError for what is no JSON."""
        if not hasattr(self, "_json"):
            body = _in_utf8(await self.body())
            settings = self.app.state.backends.settings.ingress
            check_json(body, settings.max_request_values, settings.max_request_depth)
            self._json = json.loads(body)
        return self._json


def _in_utf8(body: bytes) -> bytes:
    """The first bytes of a JSON text say in which encoding of Unicode it is. Raises: ValueError."""
    encoding = json.detect_encoding(body)
    return body.decode(encoding).encode() if encoding != "utf-8" else body


class BoundedRoute(APIRoute):
    """Of every router that takes bodies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            return await handle(BoundedRequest(request.scope, request.receive))

        return handle_bounded
