"""Limits the requests per minute of each user, at one ingress replica.

Each of N replicas allows a user its share: limit / N, rounded up. It counts in memory and asks no other
process. A user whose requests all reach one replica therefore gets only the share of that replica. The window
slides: requests of this minute count in full, and those of the last minute in proportion to its part of the
window.

The `limits` library is not used. It starts a thread at every request, and the thread goes through the counts
of all users.
"""

import math
import time
from collections import Counter
from collections.abc import Callable

from registry.errors import RateLimited

WINDOW_S = 60


class RequestLimit:
    """The limit of requests of each user. `max_requests_per_minute` is for all replicas; None: no limit.

    `clock` returns seconds since an arbitrary start, and never goes back.
    """

    def __init__(
        self,
        max_requests_per_minute: int | None,
        num_replicas: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.set_limit(max_requests_per_minute, num_replicas)
        self._minute = 0
        self._now: Counter[str] = Counter()
        self._before: Counter[str] = Counter()

    def set_limit(self, max_requests_per_minute: int | None, num_replicas: int) -> None:
        """Changes the limit. The requests of the last minute still count."""
        share = math.ceil(max_requests_per_minute / num_replicas) if max_requests_per_minute else None
        self._limit = share

    def count(self, user: str) -> tuple[dict[str, str], RateLimited | None]:
        """Counts a request. Returns the rate limit headers, and an error if the request is one too many."""
        if self._limit is None:
            return {}, None
        elapsed_s = self._turn()
        is_allowed = self._room(user, elapsed_s) >= 1
        self._now[user] += is_allowed
        headers = {
            "x-ratelimit-limit-requests": str(self._limit),
            "x-ratelimit-remaining-requests": str(max(math.floor(self._room(user, elapsed_s)), 0)),
            "x-ratelimit-reset-requests": duration(self._until_unused_s(user, elapsed_s)),
        }
        if is_allowed:
            return headers, None
        message = f"you have made {self._limit} requests in the last minute, which is as many as you may"
        wait_s = math.ceil(self._until_allowed_s(user, self._limit - 1, elapsed_s))
        return headers, RateLimited(message, retry_after_s=max(wait_s, 1))

    def _turn(self) -> float:
        """Returns the seconds of this minute that have passed. When a minute is over, its counts move on."""
        minute, elapsed_s = divmod(self._clock(), WINDOW_S)
        if minute != self._minute:
            self._before = self._now if minute == self._minute + 1 else Counter()
            self._now = Counter()
            self._minute = int(minute)
        return elapsed_s

    def _room(self, user: str, elapsed_s: float) -> float:
        """Returns the number of requests that are left."""
        assert self._limit is not None
        used = self._now[user] + self._before[user] * (1 - elapsed_s / WINDOW_S)
        return round(self._limit - used, 6)  # a sum that misses 1 only by its rounding error counts as 1

    def _until_unused_s(self, user: str, elapsed_s: float) -> float:
        """Returns the seconds until none of the requests so far counts."""
        if self._now[user]:
            return 2 * WINDOW_S - elapsed_s
        return WINDOW_S - elapsed_s if self._before[user] else 0.0

    def _until_allowed_s(self, user: str, most: int, elapsed_s: float) -> float:
        """Returns the seconds until at most `most` requests count. More than `most` count now."""
        now, before = self._now[user], self._before[user]
        if now <= most:
            return (1 - (most - now) / before) * WINDOW_S - elapsed_s
        return (2 - most / now) * WINDOW_S - elapsed_s


def duration(seconds: float) -> str:
    """Returns a duration in OpenAI's form, in whole seconds: `0s`, `59s`, `6m0s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
