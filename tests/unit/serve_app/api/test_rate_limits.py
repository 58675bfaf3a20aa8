import pytest

from registry.errors import RateLimited
from serve_app.api.rate_limits import RequestLimit, duration

MINUTE = 60 * 30_000_000


class Clock:
    now = float(MINUTE)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_request_over_the_limit_is_refused_and_others_are_not(clock: Clock) -> None:
    limit = RequestLimit(2, 1, clock)
    seen = [limit.count("alice") for _ in range(3)]
    assert [headers["x-ratelimit-remaining-requests"] for headers, _ in seen] == ["1", "0", "0"]
    assert [refusal is None for _, refusal in seen] == [True, True, False]
    refusal = seen[-1][1]
    # The next minute begins with 2 requests, and has room for another when half of it is over.
    assert isinstance(refusal, RateLimited) and refusal.retry_after_s == 90
    assert limit.count("bob")[1] is None


@pytest.mark.parametrize("limit_per_minute", [1, 2, 7, 60])
@pytest.mark.parametrize("used_s", [0.0, 29.7, 59.9])
def test_one_may_come_back_when_it_was_said_and_not_sooner(
    clock: Clock, limit_per_minute: int, used_s: float
) -> None:
    limit = RequestLimit(limit_per_minute, 1, clock)
    clock.now += used_s
    while limit.count("alice")[1] is None:
        pass
    for _ in range(3):  # from the counts of this minute, then from those of the last
        refusal = limit.count("alice")[1]
        assert refusal is not None
        clock.now += refusal.retry_after_s - 1.01
        assert limit.count("alice")[1] is not None
        clock.now += 1.01
        assert limit.count("alice")[1] is None
        while limit.count("alice")[1] is None:
            pass


def test_a_minute_without_requests_gives_all_back(clock: Clock) -> None:
    limit = RequestLimit(4, 1, clock)
    for _ in range(4):
        headers, _ = limit.count("alice")
    assert headers["x-ratelimit-reset-requests"] == "2m0s"
    clock.now += 120
    assert limit.count("alice")[0]["x-ratelimit-remaining-requests"] == "3"


def test_replicas_have_a_share_rounded_up(clock: Clock) -> None:
    assert RequestLimit(10, 3, clock).count("alice")[0]["x-ratelimit-limit-requests"] == "4"


def test_without_a_limit_nothing_is_said(clock: Clock) -> None:
    assert RequestLimit(None, 1, clock).count("alice") == ({}, None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.2, "1s"), (59.5, "1m0s"), (60, "1m0s"), (360, "6m0s"), (75, "1m15s")]
)
def test_duration_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_changed_limit_counts_what_was_used_before(clock: Clock) -> None:
    limit = RequestLimit(2, 1, clock)
    for _ in range(2):
        assert limit.count("alice")[1] is None
    assert limit.count("alice")[1] is not None
    limit.set_limit(3, 1)
    assert [limit.count("alice")[1] is None for _ in range(2)] == [True, False]
