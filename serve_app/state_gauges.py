"""Gauges by which a replica tells Prometheus that it does not do all that the operator asks of it.

another cluster leads          ->  tiger_superseded
the new settings are refused   ->  tiger_settings_refused

Both are 0 while all is well, so that an alert finds them before they are needed. Ray adds `ray_` to the
names.
"""

from serve_app.lasting_gauges import LastingGauges

OF_DEPLOYMENT = ("deployment",)


class StateGauges:
    """The gauges of one replica. The first call starts to repeat them, on the event loop that runs then."""

    def __init__(self, deployment: str, gauges: LastingGauges | None = None) -> None:
        self._labels = {"deployment": deployment}
        self._gauges = gauges or LastingGauges()
        self._superseded = self._gauges.add(
            "tiger_superseded",
            "1 if another cluster has taken over the bucket from this one, else 0",
            OF_DEPLOYMENT,
        )
        self._refused = self._gauges.add(
            "tiger_settings_refused",
            "1 if the former settings stay, because those that were deployed last are not valid here, else 0",
            OF_DEPLOYMENT,
        )
        self._is_started = False

    def tell_superseded(self, is_superseded: bool) -> None:
        self._start()
        self._superseded.set(float(is_superseded), self._labels)

    def tell_refused(self, is_refused: bool) -> None:
        self._start()
        self._refused.set(float(is_refused), self._labels)

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            self._gauges.start()
