"""Gauges are set again on a period, because Ray forgets those that are not."""

from serve_app.lasting_gauges import LastingGauges
from tests.support.gauges import Gauges
from tests.support.waiting import comes_true


async def test_every_series_is_set_again_to_its_last_value() -> None:
    built = Gauges()
    gauges = LastingGauges(built, period_s=0.01)
    gauge = gauges.add("tiger_length", "Length", ("base_model",))
    gauge.set(3, {"base_model": "one"})
    gauge.set(5, {"base_model": "two"})
    gauge.set(4, {"base_model": "one"})
    assert built.values == {"tiger_length{base_model=one}": 4, "tiger_length{base_model=two}": 5}
    built.values.clear()
    gauges.start()
    expected = {"tiger_length{base_model=one}": 4.0, "tiger_length{base_model=two}": 5.0}
    for _ in range(2):
        await comes_true(lambda: built.values == expected)
        built.values.clear()


async def test_series_that_is_not_kept_is_not_set_again() -> None:
    built = Gauges()
    gauge = LastingGauges(built).add("tiger_length", "Length", ("base_model",))
    gauge.set(3, {"base_model": "one"})
    gauge.set(5, {"base_model": "two"})
    gauge.keep_only([{"base_model": "two"}])
    built.values.clear()
    gauge.repeat()
    assert built.values == {"tiger_length{base_model=two}": 5.0}
