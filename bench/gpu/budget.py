"""The time that a run may take. A lent GPU is taken back at a fixed time, whatever runs on it."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class OutOfTime(KeyboardInterrupt):
    """The time is over. As a KeyboardInterrupt it also ends an event loop and `Instance.up`."""


class TimeBudget:
    """The time from now on until `limit_s` seconds have passed."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._start = clock()

    @property
    def used_s(self) -> float:
        return self._clock() - self._start

    @property
    def remaining_s(self) -> float:
        return max(self.limit_s - self.used_s, 0.0)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread if the block takes longer than `seconds`, which must be above 0."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    timer_before_s, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, timer_before_s)
