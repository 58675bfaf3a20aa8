"""A middleware in plain ASGI that adds headers to every answer."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.errors import ANSWER_HEADERS


class AnswerHeaders:
    """A middleware that adds the headers under ANSWER_HEADERS in the scope to answers, streams and errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(scope.get(ANSWER_HEADERS, {}))
            await send(message)

        await self._app(scope, receive, send_with_headers)
