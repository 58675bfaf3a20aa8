"""An event loop whose clock jumps: minutes of waiting take no time, and come out the same every time."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time stands still while anything can run, and goes on to the next timer when nothing can.

    Raises: RuntimeError: all wait, and for no timer.
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
