"""The models of a user: `users/<user>/models.json`, changed only with conditional writes.

If another writer was first, the list is read and changed again. So names stay unique, revisions never go
back, and no update is lost.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from registry.errors import Unavailable
from registry.records import UserModels
from registry.store import ObjectMissing, ObjectStore, WriteConflict

PREFIX = "users/"
FILE = "models.json"
UPDATE_DEADLINE_S = 30.0
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class VersionedModels:
    """A user's list of models and its etag, which is None while there is no list yet."""

    models: UserModels
    etag: str | None


class UserModelStore:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def load(self, user: str) -> VersionedModels:
        try:
            stored = self._store.get(_object_key(user))
        except ObjectMissing:
            return VersionedModels(UserModels(), None)
        return VersionedModels(UserModels.model_validate_json(stored.body), stored.etag)

    def save(self, user: str, models: UserModels, etag: str | None) -> VersionedModels:
        """Replace the list that has this etag; None: there must be no list. Raises: WriteConflict."""
        key, body = _object_key(user), models.model_dump_json().encode()
        new_etag = self._store.create(key, body) if etag is None else self._store.replace(key, body, etag)
        return VersionedModels(models, new_etag)

    def update(
        self,
        user: str,
        change: Callable[[UserModels], UserModels],
        deadline_s: float = UPDATE_DEADLINE_S,
    ) -> VersionedModels:
        """Apply `change` to the newest list; it may be called again with a newer one.

        An error of `change` is passed on, and nothing is written. If `change` returns an equal list, nothing
        is written either.

        Raises:
            Unavailable: other writers were first until the deadline, or storage failed; then the change may
                or may not have been written.
        """
        deadline = time.monotonic() + deadline_s
        wait_s = FIRST_WAIT_S
        while True:
            current = self.load(user)
            models = change(current.models)
            if models == current.models:
                return current
            try:
                return self.save(user, models, current.etag)
            except WriteConflict as conflict:
                if time.monotonic() + wait_s > deadline:
                    raise Unavailable("too many changes at once to the models of this user") from conflict
            # Another writer was first. A random wait keeps the writers from colliding again.
            time.sleep(random.uniform(0, wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def count_by_base_model(store: ObjectStore) -> Counter[str]:
    """The numbers of private models of all users, by the ids of their base models."""
    keys = [key for key in store.list(PREFIX) if key.endswith(f"/{FILE}")]
    lists = [UserModels.model_validate_json(found.body) for found in store.get_many(keys) if found]
    return Counter(model.base_model for models in lists for model in models.models)


def _object_key(user: str) -> str:
    return f"{PREFIX}{user}/{FILE}"
