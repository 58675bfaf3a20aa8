"""An event loop whose clock jumps: waits of minutes take no time, and their results are always the same."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own. The clock jumps to the next timer when no task can run.

    Raises: RuntimeError: all tasks wait, and none of them for a timer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def jump(timeout_s: float | None) -> Any:
            events = select(0)
            if not events and timeout_s is None:
                raise RuntimeError("nothing can ever happen")
            self._now_s += 0.0 if events else timeout_s or 0.0
            return events

        selector.select = jump

    def time(self) -> float:
        return self._now_s


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
