"""The gauges of a replica that was superseded, or that has refused its new settings."""

from serve_app.lasting_gauges import LastingGauges
from serve_app.state_gauges import StateGauges
from tests.support.gauges import Gauges
from tests.support.waiting import comes_true


async def test_gauges_tell_what_the_replica_is_and_are_repeated() -> None:
    built = Gauges()
    state = StateGauges("Catalog", LastingGauges(built, period_s=0.001))
    state.tell_refused(False)
    assert built.values == {"tiger_settings_refused{deployment=Catalog}": 0}, "others know of no leader"
    state.tell_superseded(False)
    state.tell_refused(True)
    expected = {
        "tiger_settings_refused{deployment=Catalog}": 1.0,
        "tiger_superseded{deployment=Catalog}": 0.0,
    }
    assert built.values == expected
    built.values.clear()
    await comes_true(lambda: built.values == expected)
    state.tell_superseded(True)
    state.tell_refused(False)
    assert built.values == {name: 1.0 - value for name, value in expected.items()}
