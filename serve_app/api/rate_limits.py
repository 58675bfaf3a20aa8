"""Requests a minute of each user, at one ingress replica.

Each of N replicas allows a user its share, limit / N rounded up, and counts in memory what it has seen:
nothing is asked of another process, and a user whose requests all meet one replica gets its share only.
The window slides: a minute's requests are those of this minute so far and of the last one in proportion.

By hand: the `limits` library starts a thread at every request, which looks through the counts of all users.
"""

import math
import time
from collections import Counter

from registry.errors import RateLimited

WINDOW_S = 60


class RequestLimit:
    """`max_requests_per_minute` of one user over all replicas; None: as many as they like."""

    def __init__(self, max_requests_per_minute: int | None, num_replicas: int) -> None:
        share = math.ceil(max_requests_per_minute / num_replicas) if max_requests_per_minute else None
        self._limit = share
        self._minute = 0
        self._now: Counter[str] = Counter()
        self._before: Counter[str] = Counter()

    def count(self, user: str) -> tuple[dict[str, str], RateLimited | None]:
        """Headers that say how a user stands after this request, and the error if it is one too many."""
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
        """Seconds of this minute that have passed. The counts of the one before are those of the last."""
        minute, elapsed_s = divmod(time.time(), WINDOW_S)
        if minute != self._minute:
            self._before = self._now if minute == self._minute + 1 else Counter()
            self._now = Counter()
            self._minute = int(minute)
        return elapsed_s

    def _room(self, user: str, elapsed_s: float) -> float:
        """Requests that are left."""
        assert self._limit is not None
        used = self._now[user] + self._before[user] * (1 - elapsed_s / WINDOW_S)
        return round(self._limit - used, 6)  # a place that is free to the last bit is free

    def _until_unused_s(self, user: str, elapsed_s: float) -> float:
        """Until none of the requests so far counts."""
        if self._now[user]:
            return 2 * WINDOW_S - elapsed_s
        return WINDOW_S - elapsed_s if self._before[user] else 0.0

    def _until_allowed_s(self, user: str, most: int, elapsed_s: float) -> float:
        """Until at most `most` requests count, of more than that now."""
        now, before = self._now[user], self._before[user]
        if now <= most:
            return (1 - (most - now) / before) * WINDOW_S - elapsed_s
        return (2 - most / now) * WINDOW_S - elapsed_s


def duration(seconds: float) -> str:
    """As OpenAI writes it, in whole seconds: `0s`, `59s`, `6m0s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
