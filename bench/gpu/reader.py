"""A user that reads one stream after another, in a thread, while something else is measured."""

import json
import threading
import time
from types import TracebackType
from typing import Any, Self

import httpx

from bench.gpu.measures import gaps_of

READ_TIMEOUT_S = 120


class StreamReader:
    """Reads streams of the base model from the start of the block to its end.

    `arrivals` has the times of the tokens of each stream. `first_tokens` has the time of each request and the
    seconds to its first token.
    """

    def __init__(self, http: httpx.Client, max_tokens: int) -> None:
        self.arrivals: list[list[float]] = []
        self.first_tokens: list[tuple[float, float]] = []
        self.error: str | None = None
        self._http = http
        self._max_tokens = max_tokens
        self._flows = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read_all, daemon=True)

    def __enter__(self) -> Self:
        """Returns when tokens arrive. Raises: RuntimeError if there are none."""
        self._thread.start()
        if not self._flows.wait(READ_TIMEOUT_S) or not self.first_tokens:
            raise RuntimeError(f"the stream has no tokens: {self.error}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if error is None:  # at the end of the time, nobody waits for a stream
            self._thread.join(READ_TIMEOUT_S)

    def between(self, start: float, end: float) -> dict[str, Any]:
        """The gaps inside the streams, and the first tokens of new streams, in this time."""
        streams = [[at for at in arrivals if start <= at <= end] for arrivals in self.arrivals]
        first_s = [seconds for asked_at, seconds in self.first_tokens if start <= asked_at <= end]
        return {
            **gaps_of(streams),
            "new_streams": len(first_s),
            "longest_first_token_ms": round(1000 * max(first_s), 1) if first_s else None,
        }

    def _read_all(self) -> None:
        try:
            while not self._is_over.is_set():
                self._read_one()
        except (httpx.HTTPError, RuntimeError) as error:
            self.error = f"{type(error).__name__}: {error}"
            self._flows.set()

    def _read_one(self) -> None:
        arrivals: list[float] = []
        self.arrivals.append(arrivals)
        number = len(self.arrivals)
        body = {
            "messages": [{"role": "user", "content": f"{number} Tell me a long story."}],
            "max_tokens": self._max_tokens,
            "stream": True,
        }
        asked_at = time.perf_counter()
        with self._http.stream("POST", "/v1/generate_response", json=body) as answer:
            for line in answer.iter_lines():
                kind = json.loads(line)["type"]
                if kind == "error" or answer.status_code != httpx.codes.OK:
                    raise RuntimeError(line[:500])
                if kind == "delta":
                    now = time.perf_counter()
                    if not arrivals:
                        self.first_tokens.append((asked_at, now - asked_at))
                    arrivals.append(now)
                    self._flows.set()
                if self._is_over.is_set():
                    return
