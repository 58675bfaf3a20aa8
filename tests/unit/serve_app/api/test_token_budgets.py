"""Token budgets at ingress replicas, on stored usage that is in memory."""

import asyncio
import threading
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import pytest

from registry.errors import UNREACHABLE, TokenBudgetExceeded, Unavailable
from registry.usage import Usage
from serve_app.api.token_budgets import Standing, TokenBudgets
from serve_app.budget_settings import BudgetSettings, TokenBudget

NOW = datetime(2026, 12, 10, 18, 0, tzinfo=UTC)
TODAY = NOW.date()
REFRESH_S = 30.0


class StoredUsage:
    """The usage of all users. It remembers which days were read."""

    def __init__(self) -> None:
        self.by_user: defaultdict[str, dict[tuple[date, str], Usage]] = defaultdict(dict)
        self.is_away = False
        self.may_read = threading.Event()
        self.may_read.set()
        self.reads: list[tuple[str, date, date]] = []

    def add(self, user: str, number: int, day: date = TODAY, model: str = "one") -> None:
        usage = self.by_user[user]
        usage[day, model] = usage.get((day, model), Usage()) + Usage(output_tokens=number)

    def sums(self, user: str, first: date, last: date) -> dict[tuple[date, str], Usage]:
        self.reads.append((user, first, last))
        self.may_read.wait(30)
        if self.is_away:
            raise Unavailable(UNREACHABLE)
        return {key: usage for key, usage in self.by_user[user].items() if first <= key[0] <= last}


class Times:
    """The clock and the calendar of an ingress replica."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.now = NOW

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def stored() -> StoredUsage:
    return StoredUsage()


@pytest.fixture
def times() -> Times:
    return Times()


def budgets_of(settings: BudgetSettings, stored: StoredUsage, times: Times) -> TokenBudgets:
    return TokenBudgets(
        lambda: settings, stored.sums, lambda: REFRESH_S, lambda: times.seconds, lambda: times.now
    )


@pytest.fixture
def daily(stored: StoredUsage, times: Times) -> TokenBudgets:
    return budgets_of(BudgetSettings(max_tokens_per_user_per_day=100), stored, times)


@pytest.fixture
def monthly(stored: StoredUsage, times: Times) -> TokenBudgets:
    return budgets_of(BudgetSettings(max_tokens_per_user_per_month=100), stored, times)


async def is_refused(budgets: TokenBudgets, user: str = "alice") -> bool:
    try:
        await budgets.require(user)
    except TokenBudgetExceeded:
        return True
    return False


async def test_without_a_budget_nothing_is_read(stored: StoredUsage, times: Times) -> None:
    stored.is_away = True
    budgets = budgets_of(BudgetSettings(), stored, times)
    await budgets.require("alice")
    assert await budgets.standings("alice") == [] and stored.reads == []


async def test_all_tokens_of_all_models_count(daily: TokenBudgets, stored: StoredUsage, times: Times) -> None:
    today = stored.by_user["alice"]
    today[TODAY, "one"] = Usage(input_tokens=30, output_tokens=40)
    today[TODAY, "two"] = Usage(trained_tokens=29, requests=50, training_seconds=99)
    assert not await is_refused(daily)
    stored.add("alice", 1)
    times.pass_by(REFRESH_S)
    assert await is_refused(daily)


async def test_refusal_says_when_the_period_ends(daily: TokenBudgets, stored: StoredUsage) -> None:
    stored.add("alice", 123)
    with pytest.raises(TokenBudgetExceeded, match="123 of the 100 tokens of this day") as refused:
        await daily.require("alice")
    assert refused.value.retry_after_s == 6 * 3600


async def test_refusal_is_for_the_budget_that_ends_last(stored: StoredUsage, times: Times) -> None:
    settings = BudgetSettings(max_tokens_per_user_per_day=10, max_tokens_per_user_per_month=50)
    stored.add("alice", 50)
    with pytest.raises(TokenBudgetExceeded, match="2027-01-01") as refused:
        await budgets_of(settings, stored, times).require("alice")
    assert refused.value.retry_after_s == (datetime(2027, 1, 1, tzinfo=UTC) - NOW).total_seconds()


async def test_budget_of_one_user_is_not_that_of_another(daily: TokenBudgets, stored: StoredUsage) -> None:
    stored.add("alice", 1000)
    assert [await is_refused(daily, user) for user in ("alice", "bob", "al")] == [True, False, False]


async def test_budget_of_a_single_user_replaces_the_general_ones(stored: StoredUsage, times: Times) -> None:
    exceptions = {"rich": TokenBudget(), "poor": TokenBudget(max_tokens_per_month=5)}
    settings = BudgetSettings(max_tokens_per_user_per_day=100, token_budgets_by_user=exceptions)
    for user in ("rich", "poor", "alice"):
        stored.add(user, 50)
    budgets = budgets_of(settings, stored, times)
    assert [await is_refused(budgets, user) for user in ("rich", "poor", "alice")] == [False, True, False]


async def test_standings_tell_what_is_used_and_when_that_ends(stored: StoredUsage, times: Times) -> None:
    settings = BudgetSettings(max_tokens_per_user_per_day=100, max_tokens_per_user_per_month=1000)
    stored.add("alice", 7)
    stored.add("alice", 20, TODAY - timedelta(days=9))
    stored.add("alice", 500, TODAY - timedelta(days=10))  # the last day of November
    assert await budgets_of(settings, stored, times).standings("alice") == [
        Standing("day", 100, 7, datetime(2026, 12, 11, tzinfo=UTC)),
        Standing("month", 1000, 27, datetime(2027, 1, 1, tzinfo=UTC)),
    ]


async def test_usage_is_read_once_in_an_interval_and_then_only_its_last_days(
    monthly: TokenBudgets, stored: StoredUsage, times: Times
) -> None:
    stored.add("alice", 60, TODAY - timedelta(days=5))
    for _ in range(3):
        assert not await is_refused(monthly)
    stored.add("alice", 30, TODAY - timedelta(days=1))  # written after midnight
    stored.add("alice", 10)
    times.pass_by(REFRESH_S - 1)
    assert not await is_refused(monthly)
    times.pass_by(1)
    assert await is_refused(monthly)
    assert stored.reads == [
        ("alice", TODAY.replace(day=1), TODAY),
        ("alice", TODAY - timedelta(days=1), TODAY),
    ]


async def test_requests_at_the_same_time_share_a_read(monthly: TokenBudgets, stored: StoredUsage) -> None:
    stored.may_read.clear()
    waiting = [asyncio.create_task(is_refused(monthly)) for _ in range(20)]
    await asyncio.sleep(0)
    stored.may_read.set()
    assert await asyncio.gather(*waiting) == [False] * 20
    assert len(stored.reads) == 1


async def test_new_day_begins_with_a_whole_budget_and_the_month_is_read_again(
    stored: StoredUsage, times: Times
) -> None:
    settings = BudgetSettings(max_tokens_per_user_per_day=100, max_tokens_per_user_per_month=150)
    budgets = budgets_of(settings, stored, times)
    stored.add("alice", 100)
    assert await is_refused(budgets)
    stored.add("alice", 40, TODAY - timedelta(days=5))  # written days late
    times.pass_by(6 * 3600)
    assert not await is_refused(budgets)
    assert [each.used_tokens for each in await budgets.standings("alice")] == [0, 140]
    assert stored.reads[-1] == ("alice", TODAY.replace(day=1), TODAY + timedelta(days=1))


async def test_new_month_begins_with_a_whole_budget(
    monthly: TokenBudgets, stored: StoredUsage, times: Times
) -> None:
    stored.add("alice", 100)
    assert await is_refused(monthly)
    times.pass_by(22 * 24 * 3600)
    assert not await is_refused(monthly)


async def test_another_replica_and_a_new_one_know_the_same(
    monthly: TokenBudgets, stored: StoredUsage, times: Times
) -> None:
    stored.add("alice", 100, TODAY - timedelta(days=2))
    another = budgets_of(BudgetSettings(max_tokens_per_user_per_month=100), stored, times)
    assert await is_refused(monthly) and await is_refused(another)


async def test_while_storage_is_away_the_last_known_usage_counts(
    daily: TokenBudgets, stored: StoredUsage, times: Times
) -> None:
    stored.add("alice", 100)
    assert [await is_refused(daily, user) for user in ("alice", "bob")] == [True, False]
    stored.is_away = True
    times.pass_by(REFRESH_S)
    num_reads = len(stored.reads)
    for _ in range(3):
        assert [await is_refused(daily, user) for user in ("alice", "bob")] == [True, False]
    assert len(stored.reads) == num_reads + 2, "requests do not wait for storage again and again"
    with pytest.raises(Unavailable):
        await daily.require("carol")


async def test_budget_that_is_changed_holds_at_once(stored: StoredUsage, times: Times) -> None:
    current = [BudgetSettings(max_tokens_per_user_per_day=100)]
    budgets = TokenBudgets(
        lambda: current[-1], stored.sums, lambda: REFRESH_S, lambda: times.seconds, lambda: times.now
    )
    stored.add("alice", 50, TODAY - timedelta(days=3))
    stored.add("alice", 50)
    assert not await is_refused(budgets)
    current.append(BudgetSettings(max_tokens_per_user_per_month=100))
    assert await is_refused(budgets)
