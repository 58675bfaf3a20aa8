"""NDJSON over HTTP: one JSON object a line, ended by exactly one `stop` or `error`."""

import json
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse

from serve_app.errors import as_tiger_error, body_of

MEDIA_TYPE = "application/x-ndjson"


async def stream_ndjson(lines: AsyncIterator[str]) -> StreamingResponse:
    """Stream `lines`. What fails before the first line raises; what fails later becomes the last line."""
    try:
        first = await anext(lines)
    except StopAsyncIteration:
        return StreamingResponse(iter(()), media_type=MEDIA_TYPE)

    async def body() -> AsyncIterator[str]:
        yield first
        try:
            async for line in lines:
                yield line
        except Exception as error:
            last = {"type": "error", **body_of(as_tiger_error(error))}
            yield json.dumps(last, ensure_ascii=False, separators=(",", ":")) + "\n"

    return StreamingResponse(body(), media_type=MEDIA_TYPE)


async def cancelled_at_end(response: "AsyncIterator[str]") -> AsyncIterator[str]:
    """A Serve response generator that is cancelled in its replica when nobody reads on."""
    try:
        async for line in response:
            yield line
    finally:
        response.cancel()  # type: ignore[attr-defined]
