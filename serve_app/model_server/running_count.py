"""Counts the usage of a generation while it runs."""

import time
from typing import Any, Protocol

from registry.usage import Usage

TELL_INTERVAL_S = 1.0


class UsageMeter(Protocol):
    def count(self, user: str, model: str, usage: Usage) -> None: ...


class RunningCount:
    """Reports the usage of one generation to the meter every second.

    If the process dies, hardly more is lost than what the meter has not written yet.
    """

    def __init__(
        self,
        meter: UsageMeter,
        user: str,
        model_id: str,
        num_prompt_tokens: int,
        kind: str,
        num_copies: int = 1,
    ) -> None:
        self._meter = meter
        self._key = user, model_id
        self._num_prompt_tokens = num_prompt_tokens
        self._is_delta = kind == "DELTA"
        self._num_copies = num_copies
        self._told_at = time.monotonic()
        self._tokens_of_sample: dict[int, int] = {}
        self._num_untold = 0
        self._has_more = False
        self._is_told = False

    def add(self, output: Any) -> None:
        """Counts an output. With kind DELTA it has only new tokens, with other kinds all tokens so far."""
        if not self._num_prompt_tokens:
            self._num_prompt_tokens = len(output.prompt_token_ids or ())
        for sample in output.outputs:
            known = 0 if self._is_delta else self._tokens_of_sample.get(sample.index, 0)
            self._tokens_of_sample[sample.index] = len(sample.token_ids)
            self._num_untold += max(len(sample.token_ids) - known, 0)
        self._has_more = True
        if time.monotonic() - self._told_at >= TELL_INTERVAL_S:
            self.tell()

    def abandon(self) -> None:
        """Notes that the client went away. Seconds count until now, and the prompt counts in any case."""
        self._has_more = True

    def tell(self) -> None:
        """Reports what is new since the last report.

        Nothing is reported if nothing is new, such as when the engine refuses a request.
        """
        if not self._has_more:
            return
        now = time.monotonic()
        usage = Usage(
            requests=0 if self._is_told else 1,
            input_tokens=0 if self._is_told else self._num_prompt_tokens,
            output_tokens=self._num_untold * self._num_copies,
            generation_seconds=now - self._told_at,
        )
        self._told_at, self._is_told, self._num_untold, self._has_more = now, True, 0, False
        self._meter.count(*self._key, usage)
