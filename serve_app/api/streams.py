"""Answers in pieces. An error before the first piece is an ordinary error; a later one is the last piece.

NDJSON has one JSON object per line and ends with exactly one `stop` or `error`. Server-sent events are like
OpenAI's and end with `[DONE]`. The events of the Responses API end with one that has the whole response.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from registry.deployment_calls import AnswerStream
from registry.errors import TigerError
from registry.json_text import compact_json
from serve_app.api.errors import body_of
from serve_app.remote_errors import as_tiger_error
from serve_app.shared_tasks import is_being_cancelled

MEDIA_TYPE = "application/x-ndjson"
EVENTS_MEDIA_TYPE = "text/event-stream"
DONE = "data: [DONE]\n\n"
LAST_EVENTS = tuple(f"event: response.{end}\n".encode() for end in ("completed", "incomplete", "failed"))


async def stream_ndjson(lines: AsyncGenerator[str, None]) -> StreamingResponse:
    """Stream `lines`, each of which includes its line end."""
    return await _stream(lines, MEDIA_TYPE)


async def stream_events(events: AnswerStream[str]) -> StreamingResponse:
    """Stream server-sent `events` of a Serve handle."""
    return await _stream(cancelled_at_end(events), EVENTS_MEDIA_TYPE)


async def stream_made_events(events: AsyncGenerator[str, None]) -> StreamingResponse:
    """Stream server-sent `events` that this replica makes itself."""
    return await _stream(events, EVENTS_MEDIA_TYPE)


async def cancelled_at_end(response: AnswerStream[str]) -> AsyncGenerator[str, None]:
    """Yield from a response generator of Serve. If the reader stops, the call is cancelled in its replica."""
    try:
        async for line in response:
            yield line
    finally:
        response.cancel()


def is_stream(content_type: str) -> bool:
    return content_type.partition(";")[0] in LAST_PIECES


def last_piece(content_type: str, error: TigerError) -> bytes:
    """Return the last piece of a stream that fails."""
    return LAST_PIECES[content_type.partition(";")[0]](body_of(error)).encode()


def is_last_piece(content_type: str, piece: bytes) -> bool:
    """Return True if a stream ends with this piece. A piece may have several lines."""
    if content_type.startswith(EVENTS_MEDIA_TYPE):
        last_event = piece.rstrip(b"\n").rpartition(b"\n\n")[2]
        return piece.endswith(DONE.encode()) or last_event.startswith(LAST_EVENTS)
    lines = piece.splitlines()
    return bool(lines) and json.loads(lines[-1]).get("type") in ("stop", "error")


class _Stream(StreamingResponse):
    """A response in pieces. When it ends, it closes the generator of its pieces, which then stops at once."""

    def __init__(self, first: str, pieces: AsyncGenerator[str, None], media_type: str) -> None:
        self._first, self._pieces = first, pieces
        self._body = self._passed_on()
        super().__init__(self._body, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._body.aclose()
            await self._pieces.aclose()

    async def _passed_on(self) -> AsyncGenerator[str, None]:
        yield self._first
        try:
            async for piece in self._pieces:
                yield piece
        except (Exception, asyncio.CancelledError) as error:
            if is_being_cancelled():
                raise
            assert self.media_type is not None
            yield LAST_PIECES[self.media_type](body_of(as_tiger_error(error)))


async def _stream(pieces: AsyncGenerator[str, None], media_type: str) -> StreamingResponse:
    try:
        first = await anext(pieces)
    except StopAsyncIteration:
        return StreamingResponse(iter(()), media_type=media_type)
    return _Stream(first, pieces, media_type)


def _last_line(body: dict[str, Any]) -> str:
    return f"{compact_json({'type': 'error', 'message': body['error']['message'], **body})}\n"


def _last_event(body: dict[str, Any]) -> str:
    return f"data: {compact_json(body)}\n\n{DONE}"


LAST_PIECES: dict[str, Callable[[dict[str, Any]], str]] = {
    MEDIA_TYPE: _last_line,
    EVENTS_MEDIA_TYPE: _last_event,
}
