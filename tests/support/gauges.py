"""Gauges that keep the values that they are set to, in place of Ray's."""


class Gauges:
    """Builds gauges. `values` has the last value of each series, as `name{label=value}`."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def __call__(self, name: str, description: str, label_names: tuple[str, ...]) -> "KeptGauge":
        assert description
        return KeptGauge(name, label_names, self.values)


class KeptGauge:
    def __init__(self, name: str, label_names: tuple[str, ...], values: dict[str, float]) -> None:
        self._name = name
        self._label_names = label_names
        self._values = values

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        labels = tags or {}
        assert tuple(labels) == self._label_names
        shown = ",".join(f"{name}={label}" for name, label in labels.items())
        self._values[f"{self._name}{{{shown}}}"] = value
