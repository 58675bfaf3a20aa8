"""Allows web pages of other origins to read answers. The operator names the origins; the default is none.

This middleware is the outermost one of the application. A browser sends its preflight request without a key,
and it shows an error to the page only if the error has these headers too.
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

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
