"""A request's body as JSON: what would be dear to parse or to check is refused before it is parsed.

    bytes  --count of values, depth-->  json.loads  -->  the route's types

Parsing holds the event loop, and no thread would help: it holds the interpreter too. Its cost is that of the
values, not of the bytes: 8 MiB of text take some milliseconds, 8 MiB of `[],[],` more than a second. So the
values and how deep they lie are counted in the bytes first, which costs less than reading them did.
"""

import json
from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from registry.errors import InvalidRequest

OPENING = b"[{"
NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def check_json(body: bytes, max_values: int, max_depth: int) -> None:
    """Every value but the first follows a comma, or begins what an opening bracket opens.

    Raises: InvalidRequest: there are more values, or they lie deeper.
    """
    if _num_values(body) <= max_values and _num_opening(body) <= max_depth:
        return
    outside = _outside_strings(body, max_values)
    if outside is None or _num_values(outside) > max_values:
        raise InvalidRequest(f"the body has more than {max_values} values")
    brackets = outside.translate(None, NOT_BRACKETS)
    if max(accumulate(map(STEP.__getitem__, brackets)), default=0) > max_depth:
        raise InvalidRequest(f"the body has values that lie more than {max_depth} levels deep")


def _num_values(text: bytes) -> int:
    return 1 + text.count(b",") + _num_opening(text)


def _num_opening(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _outside_strings(body: bytes, max_values: int) -> bytes | None:
    """What of a JSON text is in no string; None: it has more strings than so many values and their names."""
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    if plain.count(b'"') > 4 * max_values:
        return None
    return b"".join(plain.split(b'"')[::2])


class BoundedRequest(Request):
    async def json(self) -> Any:
        """Raises: InvalidRequest, and ValueError for what is no JSON."""
        if not hasattr(self, "_json"):
            body = _in_utf8(await self.body())
            settings = self.app.state.services.settings.ingress
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
