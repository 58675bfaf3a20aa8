from bench.gpu.measures import first_over_warm, gaps_of, ratio, sleep_times


def test_ratio_to_nothing_is_none() -> None:
    assert ratio(1.0, 3.0) == 0.333
    assert ratio(1.0, 0.0) is None


def test_gaps_compare_the_longest_with_the_median() -> None:
    assert gaps_of([[0.0, 0.01, 0.02], [9.0, 9.5, 9.51]]) == {
        "gaps": 4,
        "median_ms": 10.0,
        "longest_ms": 500.0,
        "ratio": 50.0,
    }


def test_single_token_has_no_gap() -> None:
    assert gaps_of([[1.0], [2.0]]) == {"gaps": 0, "median_ms": None, "longest_ms": None, "ratio": None}


def test_first_asks_are_compared_with_the_warm_ask_of_the_same_adapter() -> None:
    assert first_over_warm([0.2, 0.5, 0.3], [0.1, 0.1, 0.25]) == {
        "asks": 3,
        "first_p50_ms": 300.0,
        "warm_p50_ms": 100.0,
        "over_warm_p50_ms": 100.0,
        "over_warm_worst_ms": 400.0,
    }


def test_sleep_times_are_read_from_the_log_of_the_engine() -> None:
    lines = [
        "(EngineCore pid=1) INFO 11-26 12:00:00 [abstract.py:390] It took 1.234567 seconds to fall asleep.",
        "INFO something else took 3 seconds",
        "(EngineCore pid=1) INFO [abstract.py:408] It took 0.500000 seconds to wake up tags ['weights'].",
    ]
    assert sleep_times(lines) == {"fall_asleep_s": [1.235], "wake_up_s": [0.5]}
