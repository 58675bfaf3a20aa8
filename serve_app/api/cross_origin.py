"""Pages of other origins that may read answers in a browser: the operator names them, and by default none.

It stands outside of everything else in the application: a browser asks beforehand without a key, and shows an
error to the page only if it has these headers too.
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS = ("GET", "POST", "PATCH", "DELETE")
SHOWN_HEADERS = (
    "X-Request-Id",
    "Retry-After",
    "X-RateLimit-Limit-Requests",
    "X-RateLimit-Remaining-Requests",
    "X-RateLimit-Reset-Requests",
)


def open_to(origins: Sequence[str], app: ASGIApp) -> ASGIApp:
    """The application, for pages of these origins too. A key goes in a header, so no cookies are allowed."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=["*"],  # OpenAI's client for browsers sends many of its own
        expose_headers=SHOWN_HEADERS,
    )
