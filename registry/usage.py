"""The usage of a user in the bucket: tokens and seconds, by day and model.

    usage/<user>/<day>/<part>.json    totals per model that one process counted; only that process rewrites it

Every writer has parts of its own, so a repeated write changes nothing, and no two writers write the same
part. The usage is the sum of the parts, which is computed for each request. Days are those of UTC.
"""

from collections.abc import Mapping
from datetime import date

from registry.records import Record
from registry.store import ObjectStore


class Usage(Record):
    """Totals of usage. The seconds of generations, or of trainings, that run at the same time are added."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    trained_tokens: int = 0
    generation_seconds: float = 0.0
    training_seconds: float = 0.0

    @property
    def num_tokens(self) -> int:
        """The tokens that count for a budget: of prompts, of answers, and trained on."""
        return self.input_tokens + self.output_tokens + self.trained_tokens

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
    """`usage/<user>/<day>/<part>.json`: totals by model id."""

    models: dict[str, Usage]


class UsageParts:
    """The parts of all users in the bucket. Every method raises Unavailable if storage is away."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def save(self, user: str, day: date, part: str, models: Mapping[str, Usage]) -> None:
        body = UsagePart(models=dict(models)).model_dump_json().encode()
        self._store.put(f"{_prefix(user)}{day.isoformat()}/{part}.json", body)

    def sums(self, user: str, first: date, last: date) -> dict[tuple[date, str], Usage]:
        """Usage by day and model id, from `first` to `last` inclusive. Without usage there is no entry."""
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
    """The same time as `duration` and as `duration_ms`, because some clients read one and some the other."""
    return {"duration": round(seconds, 6), "duration_ms": milliseconds(seconds)}


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _prefix(user: str) -> str:
    return f"usage/{user}/"
