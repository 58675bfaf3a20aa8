"""Refuses requests of users who have used up their tokens of this day or this month.

    route -> TokenBudgets.require -> memory; at most once in `refresh_s` the stored usage of the user

Every ingress replica reads the same stored usage, so a budget holds for all of them together, and after a
restart. A budget can be exceeded by the requests and trainings that have begun, and by what is used until
the usage is written and read again, which is twice the flush interval.

When an ingress replica first sees a user, and at the first refresh of a new day, it reads the usage of the
whole period. Every other refresh reads the last two days: yesterday's usage may be written after midnight.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from cachetools import LRUCache

from registry.errors import TokenBudgetExceeded, Unavailable
from registry.records import utc_now
from registry.usage import Usage
from serve_app.budget_settings import BudgetSettings
from serve_app.shared_tasks import SharedTasks

MAX_USERS = 10_000

Period = Literal["day", "month"]
ReadUsage = Callable[[str, date, date], Mapping[tuple[date, str], Usage]]
"""Returns the usage of a user by day and model, from the first to the last day. Raises: Unavailable."""


@dataclass(frozen=True)
class Standing:
    """The state of one budget of a user."""

    period: Period
    max_tokens: int
    used_tokens: int
    resets_at: datetime


@dataclass(frozen=True)
class UsedTokens:
    """A user's tokens by day, from `first` on. They were read on `day`, at `asked_s`."""

    first: date
    day: date
    asked_s: float
    tokens: Mapping[date, int]

    def since(self, first: date) -> int:
        return sum(number for day, number in self.tokens.items() if day >= first)


class TokenBudgets:
    """The budgets of all users at one ingress replica.

    `settings` and `refresh_s` return the current settings. `clock` returns seconds since an arbitrary start.
    `now` returns the time that decides which day it is.
    """

    def __init__(
        self,
        settings: Callable[[], BudgetSettings],
        read: ReadUsage,
        refresh_s: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._read_usage = read
        self._refresh_s = refresh_s
        self._clock = clock
        self._now = now
        self._used: LRUCache[str, UsedTokens] = LRUCache(MAX_USERS)
        self._reads: SharedTasks[UsedTokens] = SharedTasks()

    async def require(self, user: str) -> None:
        """Raises: TokenBudgetExceeded: a budget is used up; Unavailable: the usage is not known."""
        exceeded = [each for each in await self.standings(user) if each.used_tokens >= each.max_tokens]
        if exceeded:
            last = max(exceeded, key=lambda standing: standing.resets_at)
            wait_s = math.ceil((last.resets_at - self._now()).total_seconds())
            raise TokenBudgetExceeded(
                f"you have used {last.used_tokens} of the {last.max_tokens} tokens of this {last.period}; "
                f"the next {last.period} begins at {last.resets_at:%Y-%m-%dT%H:%MZ}",
                retry_after_s=max(wait_s, 1),
            )

    async def standings(self, user: str) -> list[Standing]:
        """Returns the state of each budget of a user. Nothing is read without one. Raises: Unavailable."""
        budget = self._settings().budget_of(user)
        today = self._now().astimezone(UTC).date()
        month = today.replace(day=1)
        limits: list[tuple[Period, int | None, date, date]] = [
            ("day", budget.max_tokens_per_day, today, today + timedelta(days=1)),
            ("month", budget.max_tokens_per_month, month, _next_month(month)),
        ]
        firsts = [first for _, limit, first, _ in limits if limit is not None]
        if not firsts:
            return []
        used = await self._current(user, min(firsts), today)
        return [
            Standing(period, limit, used.since(first), datetime(end.year, end.month, end.day, tzinfo=UTC))
            for period, limit, first, end in limits
            if limit is not None
        ]

    async def _current(self, user: str, first: date, today: date) -> UsedTokens:
        """Returns the tokens of a user since `first`: while storage is away, those that were last read."""
        known = self._used.get(user)
        if known is not None and known.first > first:
            known = None
        if known is not None and self._clock() - known.asked_s < self._refresh_s():
            return known
        try:
            return await self._reads.join(user, lambda: self._refresh(user, first, today))()
        except Unavailable:
            if known is None:
                raise
            # Until the next refresh, no request waits for storage again.
            known = self._used[user] = replace(known, asked_s=self._clock())
            return known

    async def _refresh(self, user: str, first: date, today: date) -> UsedTokens:
        asked_s, since = self._clock(), first
        tokens: dict[date, int] = {}
        known = self._used.get(user)
        if known is not None and known.first <= first and known.day == today:
            since = max(first, today - timedelta(days=1))
            tokens = {day: number for day, number in known.tokens.items() if first <= day < since}
        usage = await asyncio.to_thread(self._read_usage, user, since, today)
        for (day, _), part in usage.items():
            tokens[day] = tokens.get(day, 0) + part.num_tokens
        used = self._used[user] = UsedTokens(first, today, asked_s, tokens)
        return used


def _next_month(month: date) -> date:
    """Returns the first day of the month after the one that begins at `month`."""
    return (month + timedelta(days=31)).replace(day=1)
