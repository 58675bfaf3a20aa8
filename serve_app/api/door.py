"""Admits requests. Door checks the key, takes a place of the user's share, and then reads the whole body.

    no key, unknown key  ->  401, nothing of the body is read
    one request too many ->  429, nothing of the body is read
    body too large, slow ->  413, 408
    body compressed      ->  415, nothing of the body is read
    upload of a file     ->  the application, with a Caller in the scope; it reads the body in pieces
    else                 ->  the application, with a Caller in the scope and the body in memory

Serve's own bound on requests is higher than these limits, so a user can fill only their own share.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import RequestTimeout, TigerError, UnsupportedEncoding
from serve_app.api.auth import Authenticator, Caller, presented_hash
from serve_app.api.errors import ANSWER_HEADERS, error_response
from serve_app.api.http_server import BODY_WANTED
from serve_app.api.key_check import CALLER
from serve_app.api.places import Places
from serve_app.api.rate_limits import RequestLimit
from serve_app.api.routes.console import is_of_console
from serve_app.api.streamed_body import (
    ClientGone,
    StreamedBody,
    announced_bytes,
    has_body,
    require_size,
)
from serve_app.api.upload_form import FORM_BYTES
from serve_app.http_settings import UPLOAD_PATH
from serve_app.settings import Settings

BODIES_AT_ONCE = 8
"""The number of bodies of the largest size that one user may have in memory at an ingress replica."""


class Door:
    """A middleware that requires a key for all paths except those in `public` and those of the console.

    `settings` returns the settings that hold now.
    """

    def __init__(
        self,
        app: ASGIApp,
        public: frozenset[str],
        authenticator: Authenticator,
        request_limit: RequestLimit,
        settings: Callable[[], Settings],
    ) -> None:
        self._app = app
        self._public = public
        self._authenticator = authenticator
        self._request_limit = request_limit
        self._settings = settings
        self._users = Places(
            lambda: settings().limits.max_concurrent_requests_per_user,
            "you have {limit} requests in progress; wait for one of them",
        )
        self._strangers = Places(
            lambda: settings().ingress.max_unknown_keys_per_address,
            "too many keys from your address are being looked up; try again",
        )
        self._bodies = Places(
            lambda: BODIES_AT_ONCE * settings().ingress.max_request_bytes,
            "the bodies of your requests in progress are too large together; wait for one of them",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._public or is_of_console(scope["path"]):
            await self._app(scope, receive, send)
            return
        with ExitStack() as held:
            try:
                scope[CALLER] = caller = await self._caller(scope)
                self._count(scope, caller.user)
                held.enter_context(self._users.held_by(caller.user))(1)
                _require_plain(scope)
                upload, body = self._upload(scope, receive), None
                if upload is None:
                    take = held.enter_context(self._bodies.held_by(caller.user))
                    body = await self._body(scope, receive, take)
            except TigerError as refusal:
                await error_response(refusal, is_last=has_body(scope))(scope, receive, send)
                return
            except ClientGone:
                return
            if upload is None:
                await self._app(scope, _read_already(body, receive), send)
                return
            with suppress(ClientGone):
                await upload.pass_to(self._app, send)

    async def _caller(self, scope: Scope) -> Caller:
        """Finds the caller by the key. Raises: InvalidApiKey, Unavailable, RateLimited."""
        key_hash = presented_hash(Headers(scope=scope).get("authorization"))
        if not self._authenticator.is_stranger(key_hash):
            return await self._authenticator.caller(key_hash)
        address, _ = scope.get("client") or ("", 0)
        with self._strangers.held_by(address) as take:
            take(1)
            return await self._authenticator.caller(key_hash)

    def _count(self, scope: Scope, user: str) -> None:
        """Counts the request for the limit per minute. Raises: RateLimited."""
        scope[ANSWER_HEADERS], refusal = self._request_limit.count(user)
        if refusal is not None:
            raise refusal

    async def _body(self, scope: Scope, receive: Receive, take: Callable[[int], None]) -> bytes | None:
        """Reads the whole body. Returns None if the request has no body.

        Raises: RequestTooLarge, RequestTimeout, RateLimited, ClientGone.
        """
        ingress = self._settings().ingress
        require_size(announced_bytes(scope), ingress.max_request_bytes)
        if BODY_WANTED in scope:
            scope[BODY_WANTED].set()
        if not has_body(scope):
            return None
        try:
            async with asyncio.timeout(ingress.body_timeout_s):
                return await _read(receive, take, ingress.max_request_bytes)
        except TimeoutError:
            raise RequestTimeout(f"the body did not arrive within {ingress.body_timeout_s:g} s") from None

    def _upload(self, scope: Scope, receive: Receive) -> StreamedBody | None:
        """Returns the body of an upload; None: this is another request. Raises: RequestTooLarge."""
        if (scope["method"], scope["path"]) != ("POST", UPLOAD_PATH):
            return None
        ingress = self._settings().ingress
        max_bytes = ingress.max_file_bytes + FORM_BYTES
        require_size(announced_bytes(scope), max_bytes)
        return StreamedBody(scope, receive, max_bytes, ingress.upload_timeout_s)


async def _read(receive: Receive, take: Callable[[int], None], max_body_bytes: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        require_size(len(body) + len(piece), max_body_bytes)
        take(len(piece))
        body += piece
        if not message.get("more_body", False):
            return bytes(body)


def _require_plain(scope: Scope) -> None:
    """Raises: UnsupportedEncoding."""
    encoding = Headers(scope=scope).get("content-encoding", "identity")
    if encoding.strip().lower() not in ("identity", ""):
        raise UnsupportedEncoding("a compressed body is not read: send it without Content-Encoding")


def _read_already(body: bytes | None, receive: Receive) -> Receive:
    """Returns a `receive` that gives the body in one piece, and then the messages that follow it."""
    if body is None:
        return receive
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_next() -> Message:
        return pending.pop() if pending else await receive()

    return receive_next
