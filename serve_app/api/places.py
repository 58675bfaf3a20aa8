"""Limits what one holder may have at a time, such as a user's requests or the bytes of their bodies."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registry.errors import RateLimited


class Places:
    """Places of which each holder has at most `limit()`, which may change.

    `refusal` is the message if a holder asks for more. `{limit}` in it stands for the limit.
    """

    def __init__(self, limit: Callable[[], int], refusal: str) -> None:
        self._limit = limit
        self._refusal = refusal
        self._taken: Counter[str] = Counter()

    @contextmanager
    def held_by(self, holder: str) -> Iterator[Callable[[int], None]]:
        """Yields a function that takes a number of places, or raises RateLimited.

        All of them are given back at the end of the context.
        """
        held = 0

        def take(number: int) -> None:
            nonlocal held
            limit = self._limit()
            if self._taken[holder] + number > limit:
                raise RateLimited(self._refusal.format(limit=limit))
            self._taken[holder] += number
            held += number

        try:
            yield take
        finally:
            self._taken[holder] -= held
            if not self._taken[holder]:
                del self._taken[holder]  # the counter must not grow with each holder that there ever was
