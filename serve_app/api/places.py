"""How much each of many may have at once: requests in progress of a user, bytes of their bodies."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registry.errors import RateLimited


class Places:
    """`limit` of one holder; `refusal` is what is said to who asks for more."""

    def __init__(self, limit: int, refusal: str) -> None:
        self._limit = limit
        self._refusal = refusal
        self._taken: Counter[str] = Counter()

    @contextmanager
    def held_by(self, holder: str) -> Iterator[Callable[[int], None]]:
        """Gives what takes so many more, or raises RateLimited. All of it is given back at the end."""
        held = 0

        def take(number: int) -> None:
            nonlocal held
            if self._taken[holder] + number > self._limit:
                raise RateLimited(self._refusal)
            self._taken[holder] += number
            held += number

        try:
            yield take
        finally:
            self._taken[holder] -= held
            if not self._taken[holder]:
                del self._taken[holder]  # of all the holders that there have been, none is kept
