"""Repeats calls until they succeed, so that accepted work is not lost when storage is away."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from registry.errors import Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """A rule for repeating calls without end.

    The pause between two tries doubles from `first_pause_s` to `longest_pause_s`. An error of a kind that is
    not in `kinds` is raised at once.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 2.0
    kinds: tuple[type[Exception], ...] = (Unavailable,)

    def call(self, step: Callable[[], T]) -> T:
        """Block until `step` succeeds, and return its result."""
        return Retrying(**self._options())(step)

    async def call_async(self, step: Callable[[], Awaitable[T]]) -> T:
        """Wait until `step` succeeds, and return its result."""

        async def attempt() -> T:  # tenacity awaits what a coroutine function returns, and nothing else
            return await step()

        return await AsyncRetrying(**self._options())(attempt)

    def _options(self) -> dict[str, Any]:
        return {
            "retry": retry_if_exception_type(self.kinds),
            "wait": wait_exponential(multiplier=self.first_pause_s, max=self.longest_pause_s),
            "before_sleep": _log,
            "reraise": True,
        }


def _log(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    logger.warning("try %d failed with %s; trying again", state.attempt_number, type(error).__name__)
