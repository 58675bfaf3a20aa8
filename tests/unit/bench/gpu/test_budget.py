import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from bench.gpu.budget import OutOfTime, TimeBudget, interrupted_after

FAR_S = 60.0


def clock_of(*times_s: float) -> Iterator[float]:
    return iter(times_s)


def test_budget_counts_down_and_never_below_zero() -> None:
    clock = clock_of(100.0, 100.0, 130.0, 170.0, 170.0)
    budget = TimeBudget(60, lambda: next(clock))
    assert [budget.remaining_s, budget.remaining_s, budget.remaining_s] == [60.0, 30.0, 0.0]
    assert budget.used_s == 70.0


def test_block_that_waits_is_interrupted() -> None:
    with pytest.raises(OutOfTime), interrupted_after(0.01):
        threading.Event().wait(FAR_S)


def test_event_loop_is_interrupted() -> None:
    """A request that never ends waits in a task. An ordinary exception would stay in that task."""

    async def wait() -> None:
        await asyncio.gather(*(asyncio.sleep(FAR_S) for _ in range(3)), return_exceptions=True)

    with pytest.raises(OutOfTime), interrupted_after(0.05):
        asyncio.run(wait())


def test_timer_of_others_is_restored() -> None:
    with interrupted_after(FAR_S):
        with interrupted_after(FAR_S / 2):
            inner_s, _ = signal.getitimer(signal.ITIMER_REAL)
        outer_s, _ = signal.getitimer(signal.ITIMER_REAL)
    assert 0 < inner_s <= FAR_S / 2 < outer_s <= FAR_S
