"""Sends no answer to an invalid key, and ends streams whose key becomes invalid.

KeyCheck   waits, before an answer begins, until it is known that the key is still valid
KeyWatch   ends streams whose key was revoked or has expired; a training that a stream shows goes on
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import InvalidApiKey, TigerError, Unavailable
from registry.records import KeyRecord
from registry.tasks import start_apart
from serve_app.api.auth import FRESH_S, Caller
from serve_app.api.errors import error_response
from serve_app.api.in_progress import IN_PROGRESS, InProgress
from serve_app.api.streams import is_stream

CALLER = "tiger.caller"  # in the scope of a request, after its key was found valid
WATCH_S = 1.0

Recheck = Callable[[str], Awaitable[KeyRecord]]


class KeyWatch:
    """Watches the keys of open streams.

    `recheck` returns the record of a key by its hash, or raises InvalidApiKey.
    """

    def __init__(self, recheck: Recheck, pause_s: float = WATCH_S) -> None:
        self._recheck = recheck
        self._pause_s = pause_s
        self._streams: defaultdict[str, set[InProgress]] = defaultdict(set)
        self._watching: asyncio.Task[None] | None = None

    @contextmanager
    def watched(self, key_hash: str, stream: InProgress) -> Iterator[None]:
        """Inside this context, the stream is ended soon after its key becomes invalid."""
        self._streams[key_hash].add(stream)
        if self._watching is None or self._watching.done():
            self._watching = start_apart(self._watch())
        try:
            yield
        finally:
            self._streams[key_hash].discard(stream)
            if not self._streams[key_hash]:
                del self._streams[key_hash]

    async def _watch(self) -> None:
        while self._streams:
            await asyncio.gather(*map(self._look_at, list(self._streams)))
            await asyncio.sleep(self._pause_s)

    async def _look_at(self, key_hash: str) -> None:
        try:
            await self._recheck(key_hash)
        except InvalidApiKey as error:
            for stream in list(self._streams.get(key_hash, ())):
                stream.end(error)
        except Exception:
            return  # storage cannot be reached; the key was valid a moment ago


class KeyCheck:
    """A middleware that sends nothing before the key is known to be valid.

    If the key is invalid, that error is the whole answer.
    """

    def __init__(self, app: ASGIApp, recheck: Recheck, watch: KeyWatch) -> None:
        self._app = app
        self._recheck = recheck
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived_s = time.monotonic()
        is_answering = False

        async def send_checked(message: Message) -> None:
            nonlocal is_answering
            if not is_answering:
                await self._check(scope, arrived_s)
                is_answering = True
                if is_stream(Headers(raw=message.get("headers", [])).get("content-type", "")):
                    watched.enter_context(self._watch.watched(scope[CALLER].key_hash, scope[IN_PROGRESS]))
            await send(message)

        with ExitStack() as watched:
            try:
                await self._app(scope, receive, send_checked)
            except Exception:
                if is_answering:
                    raise
                try:
                    await self._check(scope, arrived_s)
                except TigerError as refusal:
                    await error_response(refusal)(scope, receive, send)
                else:
                    raise

    async def _check(self, scope: Scope, arrived_s: float) -> None:
        """Checks the key of the request, if it has one. Raises: InvalidApiKey, Unavailable."""
        caller: Caller | None = scope.get(CALLER)
        if caller is None:
            return
        if caller.check is not None:
            await caller.check()
        if time.monotonic() - arrived_s > FRESH_S:
            with suppress(Unavailable):  # the key was valid when the request arrived, and that counts
                await self._recheck(caller.key_hash)
