import logging

import pytest

from registry.errors import ModelNotFound, Unavailable
from registry.retry import Retry

SOON = Retry(first_pause_s=0.001, longest_pause_s=0.002)


class Step:
    """A step that raises each of `errors` in turn, and then returns the number of tries."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.num_tries = 0

    def __call__(self) -> int:
        self.num_tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.num_tries

    async def later(self) -> int:
        return self()


def test_an_outage_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert SOON.call(Step(Unavailable("bucket b-17"), Unavailable("bucket b-17"))) == 3
    assert "try 2 failed with Unavailable" in caplog.text
    assert "b-17" not in caplog.text


async def test_an_outage_is_waited_for_on_an_event_loop() -> None:
    assert await SOON.call_async(Step(*[Unavailable("away")] * 5).later) == 6
    step = Step(Unavailable("away"))
    assert await SOON.call_async(lambda: step.later()) == 2


async def test_another_error_is_raised_at_once() -> None:
    step = Step(Unavailable("away"), ModelNotFound("no such model"), Unavailable("away"))
    with pytest.raises(ModelNotFound):
        await SOON.call_async(step.later)
    assert step.num_tries == 2


def test_other_kinds_can_be_waited_for() -> None:
    assert Retry(0, 0, (TimeoutError,)).call(Step(TimeoutError())) == 2
    with pytest.raises(Unavailable):
        Retry(0, 0, (TimeoutError,)).call(Step(Unavailable("away")))
