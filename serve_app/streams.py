"""Answers in pieces. What fails before the first one is an ordinary error, what fails later is the last one.

NDJSON: one JSON object a line, ended by exactly one `stop` or `error`. Server-sent events: as OpenAI makes
them, ended by `[DONE]`.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.responses import StreamingResponse

from serve_app.errors import as_tiger_error, body_of

MEDIA_TYPE = "application/x-ndjson"
EVENTS_MEDIA_TYPE = "text/event-stream"


async def stream_ndjson(lines: AsyncIterator[str]) -> StreamingResponse:
    """Stream `lines`, each with its end of line."""
    return await _stream(lines, MEDIA_TYPE, lambda error: f"{_json({'type': 'error', **error})}\n")


async def stream_events(events: AsyncIterator[str]) -> StreamingResponse:
    """Stream server-sent `events` of a Serve handle."""
    last = "data: {error}\n\ndata: [DONE]\n\n"
    pieces = cancelled_at_end(events)
    return await _stream(pieces, EVENTS_MEDIA_TYPE, lambda error: last.format(error=_json(error)))


async def cancelled_at_end(response: AsyncIterator[str]) -> AsyncIterator[str]:
    """A Serve response generator that is cancelled in its replica when nobody reads on."""
    try:
        async for line in response:
            yield line
    finally:
        response.cancel()  # type: ignore[attr-defined]


async def _stream(
    pieces: AsyncIterator[str], media_type: str, on_error: Callable[[dict[str, Any]], str]
) -> StreamingResponse:
    try:
        first = await anext(pieces)
    except StopAsyncIteration:
        return StreamingResponse(iter(()), media_type=media_type)

    async def body() -> AsyncIterator[str]:
        yield first
        try:
            async for piece in pieces:
                yield piece
        except Exception as error:
            yield on_error(body_of(as_tiger_error(error)))

    return StreamingResponse(body(), media_type=media_type)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
