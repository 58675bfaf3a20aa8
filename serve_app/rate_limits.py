"""Requests a minute of each user, at one ingress replica.

Each of N replicas allows a user its share, limit / N rounded up, and counts in memory what it has seen:
nothing is asked of another process, and a user whose requests all meet one replica gets its share only.
The window slides: a minute's requests are those of this minute so far and of the last one in proportion.
"""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from registry.errors import RateLimited

WINDOW_S = 60


class RequestLimit:
    """`max_requests_per_minute` of one user over all replicas; None: as many as they like."""

    def __init__(self, max_requests_per_minute: int | None, num_replicas: int) -> None:
        share = math.ceil(max_requests_per_minute / num_replicas) if max_requests_per_minute else None
        self._item = RateLimitItemPerMinute(share) if share else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count(self, user: str) -> tuple[dict[str, str], RateLimited | None]:
        """Headers that say how a user stands after this request, and the error if it is one too many."""
        if self._item is None:
            return {}, None
        is_allowed = self._limiter.hit(self._item, user)
        window = self._limiter.get_window_stats(self._item, user)
        reset_s = max(window.reset_time - time.time(), 0.0)
        headers = {
            "x-ratelimit-limit-requests": str(self._item.amount),
            "x-ratelimit-remaining-requests": str(window.remaining if is_allowed else 0),
            "x-ratelimit-reset-requests": duration(reset_s),
        }
        if is_allowed:
            return headers, None
        message = (
            f"you have made {self._item.amount} requests in the last minute, which is as many as you may"
        )
        return headers, RateLimited(message, retry_after_s=max(math.ceil(reset_s), 1))


def duration(seconds: float) -> str:
    """As OpenAI writes it, in whole seconds: `0s`, `59s`, `6m0s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
