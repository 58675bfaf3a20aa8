"""Counts and times the requests of an ingress replica, by method, template of the route, and status.

Ray Serve counts requests too, but HAProxy makes that number: it knows neither the route nor how long a
request took in the application. Labels have few values: a path that no route has is `unknown`, so that
clients cannot make series.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ray.util.metrics import Counter, Histogram
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0]
"""The bounds reach from a list out of memory to a long stream."""
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER = "other"
UNKNOWN = "unknown"
CLIENT_WENT_AWAY = 499
"""The status of a request whose client went away before the answer had begun. Serve uses it too."""


class HttpMetrics(Protocol):
    """The numbers of requests. An implementation only counts, and does not raise."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Reports a request that has ended, `seconds` after it arrived; a stream ends with its last byte."""


class RayHttpMetrics:
    """An HttpMetrics that Ray exports. Ray adds `ray_` before each name and `_total` after counters."""

    def __init__(self) -> None:
        self._requests = Counter(
            "tiger_http_requests",
            "Requests that have ended; 499: the client went away before the answer",
            ("method", "route", "status"),
        )
        self._seconds = Histogram(
            "tiger_http_request_seconds",
            "Time from the arrival of a request at the ingress to the last byte of its answer in seconds",
            SECONDS,
            ("method", "route"),
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        labels = {"method": method, "route": route}
        self._requests.inc(1, {**labels, "status": str(status)})
        self._seconds.observe(seconds, labels)


class CountedRequests:
    """A middleware that reports every request to `metrics`."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: HttpMetrics,
        routes: Sequence[BaseRoute],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived_s = self._clock()
        status = CLIENT_WENT_AWAY

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception:
            # An outer layer answers with 500, unless the answer has begun.
            status = 500 if status == CLIENT_WENT_AWAY else status
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            self._metrics.answered(method, self._template(scope), status, self._clock() - arrived_s)

    def _template(self, scope: Scope) -> str:
        """Returns the path of the route, with the names of its parameters in place of their values.

        Routing leaves the route in the scope. A request that was refused before has no route there yet.
        """
        route = scope.get("route") or next(
            (each for each in self._routes if each.matches(scope)[0] is not Match.NONE), None
        )
        return str(getattr(route, "path", UNKNOWN))
