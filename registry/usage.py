"""What a user has used: tokens and seconds by day and model, in the bucket.

    usage/<user>/<day>/<part>.json    totals per model that one process counted; rewritten whole, by it alone

Every writer has parts of its own, so a repeated write changes nothing and no two writers meet. What was
used is the sum over the parts, made when somebody asks. Days are those of UTC.
"""

from collections.abc import Mapping
from datetime import date

from registry.records import Record
from registry.store import ObjectStore


class Usage(Record):
    """Seconds of generations that run side by side add up, like those of trainings."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    trained_tokens: int = 0
    generation_seconds: float = 0.0
    training_seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            trained_tokens=self.trained_tokens + other.trained_tokens,
            generation_seconds=self.generation_seconds + other.generation_seconds,
            training_seconds=self.training_seconds + other.training_seconds,
        )


class UsagePart(Record):
    """`usage/<user>/<day>/<part>.json`. Models are named by id."""

    models: dict[str, Usage]


class UsageParts:
    """Raises (all): Unavailable."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def save(self, user: str, day: date, part: str, models: Mapping[str, Usage]) -> None:
        body = UsagePart(models=dict(models)).model_dump_json().encode()
        self._store.put(f"{_prefix(user)}{day.isoformat()}/{part}.json", body)

    def sums(self, user: str, first: date, last: date) -> dict[tuple[date, str], Usage]:
        """By day and model id, for the days from `first` to `last` inclusive; what was not used is absent."""
        prefix = _prefix(user)
        keys = self._store.list(prefix, start_after=f"{prefix}{first.isoformat()}/")
        days = [date.fromisoformat(key.removeprefix(prefix).split("/")[0]) for key in keys]
        asked = [(day, key) for day, key in zip(days, keys, strict=True) if day <= last]
        sums: dict[tuple[date, str], Usage] = {}
        stored = self._store.get_many([key for _, key in asked])
        for (day, _), found in zip(asked, stored, strict=True):
            if found is not None:
                for model, usage in UsagePart.model_validate_json(found.body).models.items():
                    sums[day, model] = sums.get((day, model), Usage()) + usage
        return sums


def durations(seconds: float) -> dict[str, float]:
    """The same time as `duration` and as `duration_ms`: clients look for either."""
    return {"duration": round(seconds, 6), "duration_ms": milliseconds(seconds)}


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _prefix(user: str) -> str:
    return f"usage/{user}/"
