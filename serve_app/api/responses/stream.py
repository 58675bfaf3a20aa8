"""Makes the events of a response from the events of the chat request that answers it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from registry.json_text import compact_json
from serve_app.api.responses.input import ChatForm
from serve_app.api.responses.output import Answering
from serve_app.api.streams import DONE
from serve_app.remote_errors import as_tiger_error
from serve_app.shared_tasks import is_being_cancelled


async def response_events(
    chat: AsyncGenerator[str, None], answering: Answering, form: ChatForm
) -> AsyncGenerator[str, None]:
    """Yields server-sent events; the events of one chunk of `chat` are one piece.

    An error before the first event is raised as a TigerError. A later error is the last event.
    """
    try:
        async with aclosing(chat):
            async for event in chat:
                events = [] if event == DONE else answering.feed(json.loads(event.removeprefix("data: ")))
                if events:
                    yield "".join(map(_server_sent, events))
            yield "".join(map(_server_sent, answering.end()))
    except (Exception, asyncio.CancelledError) as error:
        if is_being_cancelled():
            raise
        known = form.in_words_of_the_client(as_tiger_error(error))
        if not answering.has_begun:
            raise known from None
        yield _server_sent(answering.fail(known))


def _server_sent(event: dict[str, Any]) -> str:
    return f"event: {event['type']}\ndata: {compact_json(event)}\n\n"
