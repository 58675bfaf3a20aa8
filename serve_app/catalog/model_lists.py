"""The lists of the models of all users, in memory and in the bucket.

    load -> memory, or the bucket       change -> leases withdrawn -> compare-and-swap -> memory

After a write of unknown outcome, the list in memory is uncertain: it is read again before it is used, and no
ingress replica may keep it. While storage cannot be reached, an uncertain list is still used.

A list in memory was claimed: no former Catalog can change it in the bucket. A Catalog that was superseded
itself reads each list from the bucket, lets nobody keep it, and changes nothing.
"""

import asyncio
from collections.abc import Callable

from registry.errors import NO_SUCH_MODEL, ModelNotFound, Superseded, Unavailable
from registry.leadership import Unopposed
from registry.records import ModelRecord, UserModels
from registry.user_models import UserModelStore, VersionedModels
from serve_app.catalog.cache_leases import Leases, ReadModels

Edit = Callable[[ModelRecord, tuple[ModelRecord, ...]], ModelRecord]
"""Returns the changed model. Its arguments are the model and the user's other models."""


class ModelLists:
    """Reads and changes the lists of models. Raises (all): `Unavailable`, if storage is needed and away."""

    def __init__(self, store: UserModelStore, leases: Leases, leadership: Unopposed | None = None) -> None:
        self._store = store
        self._leases = leases
        self._leadership = leadership or Unopposed()
        self._models: dict[str, VersionedModels] = {}
        self._uncertain: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    async def load(self, user: str) -> UserModels:
        if self._leadership.is_superseded:
            return (await asyncio.to_thread(self._store.load, user)).models
        if user not in self._models or user in self._uncertain:
            async with self._lock(user):
                if user not in self._models or user in self._uncertain:
                    await self._read(user)
        return self._models[user].models

    async def load_for(self, replica: str, user: str) -> ReadModels:
        """Returns the models for an ingress replica, which may keep them while it has a lease."""
        models = await self.load(user)
        may_keep = user not in self._uncertain and not self._leadership.is_superseded
        session = self._leases.allow(replica, user) if may_keep else None
        return ReadModels(models.model_dump_json().encode(), session)

    async def change(self, user: str, change: Callable[[UserModels], UserModels]) -> UserModels:
        """Writes `change` by compare-and-swap. After an unknown outcome, the list is read again."""
        await self._leadership.confirm()
        async with self._lock(user), self._leases.withdrawn(user):
            try:
                saved = await asyncio.to_thread(self._store.update, user, change)
            except Superseded:
                self._leadership.lose()
                raise
            except BaseException:
                self._uncertain.add(user)
                raise
            self._models[user] = saved
            self._uncertain.discard(user)
            return saved.models

    async def edit(self, user: str, uid: str, edit: Edit) -> ModelRecord:
        """Changes one model. Raises: ModelNotFound, and the errors of `edit`."""

        def change(current: UserModels) -> UserModels:
            edited = edit(by_uid(current, uid), others(current.models, uid))
            return UserModels(models=tuple(edited if m.uid == uid else m for m in current.models))

        return by_uid(await self.change(user, change), uid)

    async def remove(self, user: str, uid: str) -> None:
        """Removes a model from the list. Raises: ModelNotFound."""

        def change(current: UserModels) -> UserModels:
            by_uid(current, uid)
            return UserModels(models=others(current.models, uid))

        await self.change(user, change)

    async def _read(self, user: str) -> None:
        try:
            loaded = await asyncio.to_thread(self._store.claim, user)
        except Superseded:
            self._leadership.lose()
            loaded = await asyncio.to_thread(self._store.load, user)
        except Unavailable:
            if user in self._models:
                return
            raise
        self._models[user] = loaded
        self._uncertain.discard(user)

    def _lock(self, user: str) -> asyncio.Lock:
        return self._locks.setdefault(user, asyncio.Lock())


def others(models: tuple[ModelRecord, ...], uid: str) -> tuple[ModelRecord, ...]:
    return tuple(model for model in models if model.uid != uid)


def by_uid(models: UserModels, uid: str) -> ModelRecord:
    """Returns the model with this uid. Raises: ModelNotFound."""
    found = next((model for model in models.models if model.uid == uid), None)
    if found is None:
        raise ModelNotFound(NO_SUCH_MODEL, "model")
    return found
