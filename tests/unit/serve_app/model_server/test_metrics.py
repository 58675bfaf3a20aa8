"""The first token of a request is told once."""

from serve_app.model_server.metrics import FirstToken


def test_first_token_is_told_once_with_the_time_since_the_admission() -> None:
    times = iter([10.0, 12.5, 99.0])
    told: list[float] = []
    first_token = FirstToken(told.append, lambda: next(times))
    for _ in range(3):
        first_token()
    assert told == [2.5]
