"""Exports the metrics of one base model's replica through Ray: its adapters and the time to the first token.

vLLM has metrics of its own. Its time to the first token begins when a request reaches the engine. The one
here begins when the replica admits the request. It has the wait for the adapter and for a place in the engine
too.
"""

import time
from collections.abc import Callable

from ray.util.metrics import Counter, Histogram

LOAD_SECONDS = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0]
FIRST_TOKEN_SECONDS = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0]


class RayReplicaMetrics:
    """An `adapters.AdapterMetrics`, with the first tokens. The only labels are base model and outcome."""

    def __init__(self, base_model: str) -> None:
        self._labels = {"base_model": base_model}
        self._loads = Histogram(
            "tiger_adapter_load_seconds",
            "Time to check a downloaded adapter, load it into vLLM and try it, in seconds",
            LOAD_SECONDS,
            ("base_model", "outcome"),
        )
        self._evictions = Counter(
            "tiger_adapter_evictions",
            "Adapters that were removed for others, or because their model was deleted",
            ("base_model",),
        )
        self._first_tokens = Histogram(
            "tiger_generation_first_token_seconds",
            "Time from the admission of a request at the replica to its first token in seconds",
            FIRST_TOKEN_SECONDS,
            ("base_model",),
        )

    def loaded(self, is_usable: bool, seconds: float) -> None:
        outcome = "loaded" if is_usable else "failed"
        self._loads.observe(seconds, {**self._labels, "outcome": outcome})

    def evicted(self) -> None:
        self._evictions.inc(1, self._labels)

    def began(self, seconds: float) -> None:
        self._first_tokens.observe(seconds, self._labels)


class FirstToken:
    """Reports the time until it is called for the first time; it is called at every token of a request."""

    def __init__(self, report: Callable[[float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._admitted_s = clock()
        self._is_reported = False

    def __call__(self) -> None:
        if not self._is_reported:
            self._is_reported = True
            self._report(self._clock() - self._admitted_s)
