import json
import threading
from collections.abc import Iterator

import httpx
import pytest

from bench.gpu.reader import StreamReader


def client(*streams: list[dict[str, str]], ended: threading.Event | None = None) -> httpx.Client:
    """A client whose requests get these streams, one after another. After the last one `ended` is set."""
    remaining = iter(streams)

    def lines(chunks: list[dict[str, str]]) -> Iterator[bytes]:
        for chunk in chunks:
            yield json.dumps(chunk).encode() + b"\n"

    def answer(request: httpx.Request) -> httpx.Response:
        chunks = next(remaining, None)
        if chunks is None:
            if ended is not None:
                ended.set()
            chunks = [{"type": "error"}]
        return httpx.Response(200, content=lines(chunks))

    return httpx.Client(base_url="http://tiger", transport=httpx.MockTransport(answer))


def delta(number: int) -> list[dict[str, str]]:
    return [{"type": "info"}, *({"type": "delta"} for _ in range(number)), {"type": "stop"}]


def test_streams_are_read_one_after_another() -> None:
    ended = threading.Event()
    with StreamReader(client(delta(3), delta(2), ended=ended), 10) as reader:
        assert ended.wait(10)
    found = reader.between(0.0, float("inf"))
    assert (found["gaps"], found["new_streams"]) == (2 + 1, 2)
    assert found["longest_first_token_ms"] >= 0


def test_time_before_and_after_is_left_out() -> None:
    reader = StreamReader(client(), 10)
    reader.arrivals = [[1.0, 1.01, 1.02, 5.0, 5.01], [9.0, 9.5]]
    reader.first_tokens = [(0.9, 0.1), (8.0, 1.0)]
    alone, beside = reader.between(0.0, 2.0), reader.between(4.0, 10.0)
    assert (alone["gaps"], alone["longest_ms"], alone["longest_first_token_ms"]) == (2, 10.0, 100.0)
    assert (beside["gaps"], beside["longest_ms"], beside["longest_first_token_ms"]) == (2, 500.0, 1000.0)
    assert beside["ratio"] == pytest.approx(500 / 255, rel=0.01)


def test_stream_without_tokens_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="error"), StreamReader(client(), 10):
        pass
