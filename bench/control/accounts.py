"""Writes users with keys and models directly into the bucket.

A user's list of models must be there before the first request of that user: the Catalog reads it only once.
"""

from bench.control.bulk import write_all
from registry.keys import ApiKeys
from registry.records import ModelRecord, UserModels, generate_uid, utc_now
from registry.store import ObjectStore
from registry.user_models import UserModelStore
from serve_app.settings import BaseModelSettings


def other_user(number: int) -> str:
    return f"other-{number}"


class Accounts:
    """Makes users. Their private models are copies of `base` that were never trained."""

    def __init__(self, store: ObjectStore, base: BaseModelSettings) -> None:
        self.store = store
        self.base = base
        self._keys = ApiKeys(store)
        self._user_models = UserModelStore(store)

    def create(self, user: str, num_models: int, latest_revision: int = 0) -> str:
        """Make a user with models `model-0` and so on; returns a key of that user."""
        key = self.create_key(user)
        if num_models:
            models = tuple(self.model(number, latest_revision) for number in range(num_models))
            self.save(user, models)
        return key

    def save(self, user: str, models: tuple[ModelRecord, ...]) -> None:
        """Write the first list of models of a user."""
        self._user_models.save(user, UserModels(models=models), None)

    def create_key(self, user: str) -> str:
        return self._keys.create(user, "bench")

    def create_others(self, number: int) -> None:
        """Make users that send no requests, each with one or two models."""
        write_all("users", range(number), lambda index: self.create(other_user(index), 1 + index % 2))

    def model(self, number: int, latest_revision: int, revision: int = 0) -> ModelRecord:
        now = utc_now()
        return ModelRecord(
            uid=generate_uid(),
            id=f"model-{number}",
            name=f"Model {number}",
            description="One of many models.",
            base_model=self.base.id,
            parent_model=self.base.name,
            rank=self.base.rank,
            alpha=2.0 * self.base.rank,
            dropout=0.0,
            defaults=self.base.defaults,
            created=now,
            last_modified=now,
            revision=revision,
            latest_revision=latest_revision,
        )
