"""A user's models: `users/<user>/models.json`, changed only by compare-and-swap.

A lost race is re-read and retried, so names stay unique, revisions never go back and no update
is lost, whoever writes.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from registry.errors import Unavailable
from registry.records import UserModels
from registry.store import ObjectMissing, ObjectStore, WriteConflict

UPDATE_DEADLINE_S = 30.0
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class VersionedModels:
    """`etag` is None while the user has no list of models yet."""

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
        """Write over the version with this etag; None: over nothing. Raises: WriteConflict."""
        key, body = _object_key(user), models.model_dump_json().encode()
        new_etag = self._store.create(key, body) if etag is None else self._store.replace(key, body, etag)
        return VersionedModels(models, new_etag)

    def update(
        self,
        user: str,
        change: Callable[[UserModels], UserModels],
        deadline_s: float = UPDATE_DEADLINE_S,
    ) -> VersionedModels:
        """Apply `change` to the newest version; it may be called again with a newer one.

        What `change` raises comes through, and nothing is written. A change that changes nothing
        writes nothing.

        Raises:
            Unavailable: other writers won every race until the deadline, or storage failed; then
                the change may or may not have been written.
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
                    raise Unavailable("too many changes at once to the models of this account") from conflict
            # Another writer was first. Writers that come back at random moments stop colliding.
            time.sleep(random.uniform(0, wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _object_key(user: str) -> str:
    return f"users/{user}/models.json"
