"""The models of a user: `users/<user>/models.json`, changed only with conditional writes.

If another writer was first, the list is read and changed again. So names stay unique, revisions never go
back, and no update is lost.

A Catalog that relies on a list in its memory writes its epoch into the list first (`claim`), also if the list
is empty. No former Catalog can then change the list: it finds the higher epoch.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from registry.errors import Superseded, Unavailable
from registry.leadership import MESSAGE
from registry.records import UserModels
from registry.store import ObjectMissing, ObjectStore, WriteConflict

UPDATE_DEADLINE_S = 30.0
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class VersionedModels:
    """A user's list of models and its etag, which is None while there is no list yet."""

    models: UserModels
    etag: str | None
    epoch: int = 0
    """The epoch of the Catalog that wrote the list; 0 if a program without a leadership wrote it."""


class _StoredModels(UserModels):
    epoch: int = 0


class UserModelStore:
    """The lists of all users, for one process. `epoch` is that of its leadership; None: it has no rival."""

    def __init__(self, store: ObjectStore, epoch: int | None = None) -> None:
        self._store = store
        self._epoch = epoch

    def load(self, user: str) -> VersionedModels:
        try:
            stored = self._store.get(_object_key(user))
        except ObjectMissing:
            return VersionedModels(UserModels(), None)
        found = _StoredModels.model_validate_json(stored.body)
        return VersionedModels(UserModels(models=found.models), stored.etag, found.epoch)

    def claim(self, user: str) -> VersionedModels:
        """The list, which has the epoch of this process from now on: no former Catalog can change it.

        Raises: Superseded, if a later Catalog has written the list.
        """
        while True:
            current = self.load(user)
            self._require_mine(current)
            if self._epoch in (None, current.epoch):
                return current
            with suppress(WriteConflict):
                return self.save(user, current.models, current.etag)

    def save(self, user: str, models: UserModels, etag: str | None, epoch: int = 0) -> VersionedModels:
        """Replace the list that has this etag; None: there must be no list. Raises: WriteConflict.

        `epoch` is written if this process has none of its own.
        """
        epoch = epoch if self._epoch is None else self._epoch
        key, body = _object_key(user), _StoredModels(models=models.models, epoch=epoch).model_dump_json()
        new_etag = (
            self._store.create(key, body.encode())
            if etag is None
            else self._store.replace(key, body.encode(), etag)
        )
        return VersionedModels(models, new_etag, epoch)

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
            Superseded: a later Catalog has written the list. Nothing was written.
            Unavailable: other writers were first until the deadline, or storage failed; then the change may
                or may not have been written.
        """
        deadline = time.monotonic() + deadline_s
        wait_s = FIRST_WAIT_S
        while True:
            current = self.claim(user)
            models = change(current.models)
            if models == current.models:
                return current
            try:
                return self.save(user, models, current.etag, current.epoch)
            except WriteConflict as conflict:
                if time.monotonic() + wait_s > deadline:
                    raise Unavailable("too many changes at once to the models of this user") from conflict
            # Another writer was first. A random wait keeps the writers from colliding again.
            time.sleep(random.uniform(0, wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _require_mine(self, found: VersionedModels) -> None:
        if self._epoch is not None and found.epoch > self._epoch:
            raise Superseded(MESSAGE)


def _object_key(user: str) -> str:
    return f"users/{user}/models.json"
