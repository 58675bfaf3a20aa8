"""Allows web pages of other origins to read answers. The operator names the origins; the default is none.

This middleware is the outermost one of the application. A browser sends its preflight request without a key,
and it shows an error to the page only if the error has these headers too.
"""

from collections.abc import Callable, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "POST", "PATCH", "DELETE")
SHOWN_HEADERS = (
    "X-Request-Id",
    "Retry-After",
    "X-RateLimit-Limit-Requests",
    "X-RateLimit-Remaining-Requests",
    "X-RateLimit-Reset-Requests",
)


class OpenToOrigins(CORSMiddleware):
    """The routes are those of the application: Serve names requests by them, in its log and its metrics."""

    @property
    def routes(self) -> list[BaseRoute]:
        found: list[BaseRoute] = getattr(self.app, "routes", [])
        return found


def open_to(origins: Sequence[str], app: ASGIApp) -> ASGIApp:
    """Returns the application, open to pages of these origins. Cookies are not allowed: keys are headers."""
    if not origins:
        return app
    return OpenToOrigins(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=["*"],  # OpenAI's client for browsers sends many headers of its own
        expose_headers=SHOWN_HEADERS,
    )


class Entrance:
    """The application, open to pages of the origins that `origins` returns now.

    Serve names requests by the routes of the application, in its log and its metrics.
    """

    def __init__(self, app: ASGIApp, origins: Callable[[], Sequence[str]]) -> None:
        self.routes: list[BaseRoute] = getattr(app, "routes", [])
        self.router: Router | None = getattr(app, "router", None)
        self._app = app
        self._origins = origins
        self._opened_to = origins()
        self._open = open_to(self._opened_to, app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (origins := self._origins()) != self._opened_to:
            self._opened_to, self._open = origins, open_to(origins, self._app)
        await self._open(scope, receive, send)
