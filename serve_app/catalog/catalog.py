"""The deployment that knows the models and the keys of all users. It keeps lists of models in memory.

    Ingress, Trainer  --calls-->  Catalog  --compare-and-swap-->  users/<user>/models.json

Reads are answered from memory, mostly from that of an ingress replica (catalog.cache_leases). Every change is
written to the bucket before anybody can see it. The process may therefore die at any moment: the next one
reads what was written. While storage cannot be reached, lists in memory are still served, and a read of a
list that was never loaded raises `Unavailable`.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from registry.errors import (
    InvalidRequest,
    ModelNotFound,
    NameTaken,
    QuotaExceeded,
    RevisionNotFound,
    Unavailable,
)
from registry.keys import ApiKeys, ListedKey
from registry.leftovers import Leftovers
from registry.records import (
    KeyRecord,
    Manifest,
    ModelRecord,
    UserModels,
    generate_uid,
    model_id_from_name,
    utc_now,
)
from registry.reservations import Reservations
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.user_models import UserModelStore, VersionedModels
from serve_app.catalog.cache_leases import Forgotten, Leases, ReadModels, Renewal
from serve_app.catalog.references import Resolved, Resolver, find_model
from serve_app.catalog.user_keys import UserKeys
from serve_app.replica_address import listen_at_the_node
from serve_app.settings import Settings
from serve_app.wire.models import ChangeModel, CreateModel


class Catalog:
    """The deployment. Its methods are called through Ray handles, most of them for one user.

    Raises (all): `Unavailable` when storage is needed and cannot be reached.
    """

    def __init__(self, settings: Settings, lease_term_s: float = 0.0) -> None:
        """Opens the storage. Raises: `StorageUnfit` if the endpoint does not honour conditional writes."""
        listen_at_the_node()
        store = ObjectStore(settings.storage)
        store.probe()
        self._settings = settings
        self._resolver = Resolver(settings)
        self._leases = Leases(lease_term_s)
        self._keys = ApiKeys(store)
        self._user_keys = UserKeys(self._keys, settings.limits.max_keys_per_user)
        self._user_models = UserModelStore(store)
        self._revisions = Revisions(store)
        self._reservations = Reservations(store)
        self._leftovers = Leftovers(store)
        self._leftovers.sweep()
        self._models: dict[str, VersionedModels] = {}
        self._uncertain: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    async def check_storage(self) -> None:
        """Makes one small read from storage."""
        await asyncio.to_thread(self._keys.lookup, "0" * 64)

    async def authenticate(self, key_hash: str) -> KeyRecord:
        """Reads the key with this hash from the bucket. Raises: InvalidApiKey: unknown, revoked, expired."""
        return await self._user_keys.authenticate(key_hash)

    async def create_key(
        self, user: str, name: str, expires: datetime | None, key_hash: str, maker_hash: str
    ) -> KeyRecord:
        """Makes another key of this user, if the key that makes it is valid.

        Raises: QuotaExceeded, RateLimited, InvalidApiKey.
        """
        return await self._user_keys.create(user, name, expires, key_hash, maker_hash)

    async def list_keys(self, user: str) -> list[ListedKey]:
        """Returns the user's keys, oldest first, including expired ones."""
        return await self._user_keys.list(user)

    async def revoke_key(self, user: str, key_id: str, caller_hash: str) -> None:
        """Revokes a key.

        Raises: KeyNotFound: unknown, or another user's; InvalidApiKey: the caller's key is not valid.
        """
        await self._user_keys.revoke(user, key_id, caller_hash)

    async def private_models(self, user: str) -> tuple[ModelRecord, ...]:
        return (await self._load(user)).models

    async def models(self, user: str, replica: str) -> ReadModels:
        """Returns the private models. An ingress replica may keep them while it has a lease."""
        models = await self._load(user)
        session = None if user in self._uncertain else self._leases.allow(replica, user)
        return ReadModels(models.model_dump_json().encode(), session)

    async def renew(self, replica: str, forgotten: Forgotten) -> Renewal:
        """Renews the lease of an ingress replica, which confirms the models that it forgot."""
        return await self._leases.renew(replica, forgotten)

    async def resolve(self, user: str, ref: str | None) -> Resolved:
        """Finds the model of a reference. Raises: ModelNotFound, RevisionNotFound."""
        return self._resolver.resolve(await self.private_models(user), ref)

    async def create(
        self, user: str, request: CreateModel, idempotency_key: str | None = None
    ) -> ModelRecord:
        """Creates a private model. The weights of a trained parent are copied inside the bucket.

        Raises:
            ModelNotFound, RevisionNotFound, NameTaken, InvalidRequest, QuotaExceeded.
            IdempotencyConflict: the key was used with another body.
        """
        if idempotency_key is None:
            return await self._create(user, request, generate_uid())
        key = ("models", idempotency_key)
        body = request.model_dump_json().encode()
        reserved = await asyncio.to_thread(self._reservations.reserve, user, *key, body, generate_uid())
        made = next((m for m in await self.private_models(user) if m.uid == reserved.id), None)
        if reserved.is_done:
            if made is None:
                raise ModelNotFound("the model that this Idempotency-Key made was deleted")
            return made
        made = made or await self._create(user, request, reserved.id)
        await asyncio.to_thread(self._reservations.finish, user, *key, reserved)
        return made

    async def _create(self, user: str, request: CreateModel, uid: str) -> ModelRecord:
        try:
            parent = await self.resolve(user, request.parent_model)
        except (ModelNotFound, RevisionNotFound) as error:
            raise type(error)(error.message, "parent_model") from None
        model = self._describe(request, parent, uid)
        self._check_new_name(_others(await self.private_models(user), uid), model.name)
        if parent.private is not None and parent.adapter_id is not None:
            await asyncio.to_thread(self._copy, user, parent.private.uid, parent.revision, model.uid)

        def add(current: UserModels) -> UserModels:
            if _others(current.models, uid) != current.models:
                return current  # an earlier write of this model, of unknown outcome, succeeded
            if len(current.models) >= self._settings.limits.max_models_per_user:
                raise QuotaExceeded("you have as many models as you may have; delete one first")
            self._check_new_name(current.models, model.name)
            created = model.model_copy(update={"id": self._free_id(current.models, model.name)})
            return UserModels(models=(*current.models, created))

        try:
            created = _by_uid(await self._change(user, add), model.uid)
        except (NameTaken, QuotaExceeded):
            await asyncio.to_thread(self._remove, model.uid)
            raise
        if parent.adapter_id is not None:
            with suppress(Unavailable):  # the model exists; the next sweep removes the mark
                await asyncio.to_thread(self._leftovers.clear, model.uid)
        return created

    async def change(self, user: str, ref: str, request: ChangeModel) -> ModelRecord:
        """Changes name, description or defaults. Raises: ModelNotFound, ModelReadOnly, NameTaken."""
        target = await self.private_model(user, ref)

        def edit(model: ModelRecord, others: tuple[ModelRecord, ...]) -> ModelRecord:
            if request.name is not None and request.name != model.name:
                self._check_new_name(others, request.name)
            given = request.model_dump(include={"name", "description"}, exclude_none=True)
            return model.model_copy(update={**given, "defaults": request.over(model.defaults)})

        return await self._edit(user, target.uid, edit)

    async def activate(self, user: str, ref: str, revision: int) -> ModelRecord:
        """Makes a revision the current one. Raises: ModelNotFound, ModelReadOnly, RevisionNotFound."""
        target = await self.private_model(user, ref)

        def edit(model: ModelRecord, others: tuple[ModelRecord, ...]) -> ModelRecord:
            if not 0 <= revision <= model.latest_revision:
                raise RevisionNotFound("the model has no such revision", "n")
            return model.model_copy(update={"revision": revision})

        return await self._edit(user, target.uid, edit)

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        """Makes a new revision, whose manifest is written, the current one. Repeating it changes nothing.

        Raises: ModelNotFound when the model was deleted.
        """

        def edit(model: ModelRecord, others: tuple[ModelRecord, ...]) -> ModelRecord:
            if model.latest_revision >= revision:
                return model
            update = {"revision": revision, "latest_revision": revision, "last_modified": utc_now()}
            return model.model_copy(update=update)

        return await self._edit(user, uid, edit)

    async def delete(self, user: str, uid: str) -> None:
        """Deletes a model and its revisions from storage. Raises: ModelNotFound."""

        def remove(current: UserModels) -> UserModels:
            _by_uid(current, uid)
            return UserModels(models=tuple(model for model in current.models if model.uid != uid))

        await asyncio.to_thread(self._leftovers.mark, user, uid)
        await self._change(user, remove)
        await asyncio.to_thread(self._remove, uid)

    async def private_model(self, user: str, ref: str) -> ModelRecord:
        """Finds a private model. Raises: ModelNotFound, ModelReadOnly, InvalidRequest."""
        return self._resolver.private_model(await self.private_models(user), ref)

    async def model_by_uid(self, user: str, uid: str) -> ModelRecord:
        """Returns the model with this uid. Raises: ModelNotFound."""
        return _by_uid(await self._load(user), uid)

    async def revisions(self, user: str, ref: str) -> list[Manifest]:
        """Returns the published revisions, newest first. Raises: ModelNotFound, ModelReadOnly."""
        model = await self.private_model(user, ref)
        manifests = await asyncio.to_thread(self._revisions.list, model.uid)
        return [manifest for manifest in manifests if manifest.revision <= model.latest_revision]

    def _copy(self, user: str, parent_uid: str, revision: int, uid: str) -> None:
        """Copies the parent's adapter to revision 0 of a model that is not in the list yet."""
        self._leftovers.mark(user, uid)
        try:
            self._revisions.copy(parent_uid, revision, uid)
        except RevisionNotFound:  # the parent was deleted a moment ago
            raise ModelNotFound("there is no such model", "parent_model") from None

    def _remove(self, uid: str) -> None:
        self._revisions.delete_model(uid)
        self._leftovers.clear(uid)

    async def manifest(self, user: str, ref: str, revision: int) -> tuple[ModelRecord, Manifest]:
        """Returns a model and the manifest of a revision.

        Raises: ModelNotFound, ModelReadOnly, RevisionNotFound.
        """
        model = await self.private_model(user, ref)
        found = None
        if revision <= model.latest_revision:
            found = await asyncio.to_thread(self._revisions.manifest, model.uid, revision)
        if found is None:
            raise RevisionNotFound("the model has no such revision with weights of its own", "n")
        return model, found

    async def _load(self, user: str) -> UserModels:
        if user not in self._models or user in self._uncertain:
            async with self._lock(user):
                if user not in self._models or user in self._uncertain:
                    await self._read(user)
        return self._models[user].models

    async def _read(self, user: str) -> None:
        try:
            loaded = await asyncio.to_thread(self._user_models.load, user)
        except Unavailable:
            if user in self._models:
                return
            raise
        self._models[user] = loaded
        self._uncertain.discard(user)

    async def _change(self, user: str, change: Callable[[UserModels], UserModels]) -> UserModels:
        """Writes `change` by compare-and-swap. After an unknown outcome, the list is read again."""
        async with self._lock(user), self._leases.withdrawn(user):
            try:
                saved = await asyncio.to_thread(self._user_models.update, user, change)
            except BaseException:
                self._uncertain.add(user)
                raise
            self._models[user] = saved
            self._uncertain.discard(user)
            return saved.models

    async def _edit(
        self, user: str, uid: str, edit: Callable[[ModelRecord, tuple[ModelRecord, ...]], ModelRecord]
    ) -> ModelRecord:
        def change(current: UserModels) -> UserModels:
            model = _by_uid(current, uid)
            edited = edit(model, _others(current.models, uid))
            return UserModels(models=tuple(edited if m.uid == uid else m for m in current.models))

        return _by_uid(await self._change(user, change), uid)

    def _lock(self, user: str) -> asyncio.Lock:
        return self._locks.setdefault(user, asyncio.Lock())

    def _check_new_name(self, models: tuple[ModelRecord, ...], name: str) -> None:
        """Raises NameTaken if a model of the user has this name or id: a reference must mean one model."""
        if self._resolver.find_base(name) or find_model(models, name):
            raise NameTaken("there is a model of that name already", "name")

    def _free_id(self, models: tuple[ModelRecord, ...], name: str) -> str:
        wanted = model_id_from_name(name)
        candidate, number = wanted, 2
        while candidate != name and (self._resolver.find_base(candidate) or find_model(models, candidate)):
            candidate, number = f"{wanted}-{number}", number + 1
        return candidate

    def _describe(self, request: CreateModel, parent: Resolved, uid: str) -> ModelRecord:
        base, private = parent.base, parent.private
        if private is not None:
            if request.rank not in (None, private.rank):
                raise InvalidRequest(f"a copy has the rank of its parent, {private.rank}", "rank")
            if request.alpha not in (None, private.alpha):
                raise InvalidRequest(f"a copy has the alpha of its parent, {private.alpha:g}", "alpha")
        rank = private.rank if private else request.rank or base.rank
        if private is None and rank > base.max_rank:
            raise InvalidRequest(f"the rank is at most {base.max_rank} for this base model", "rank")
        now = utc_now()
        return ModelRecord(
            uid=uid,
            id="",
            name=request.name,
            description=request.description,
            base_model=base.id,
            parent_model=parent.name,
            rank=rank,
            alpha=private.alpha if private else request.alpha or 2.0 * rank,
            dropout=request.dropout or 0.0,
            defaults=request.over(private.defaults if private else base.defaults),
            created=now,
            last_modified=now,
            has_initial_adapter=parent.adapter_id is not None,
        )


def _others(models: tuple[ModelRecord, ...], uid: str) -> tuple[ModelRecord, ...]:
    return tuple(model for model in models if model.uid != uid)


def _by_uid(models: UserModels, uid: str) -> ModelRecord:
    found = next((model for model in models.models if model.uid == uid), None)
    if found is None:
        raise ModelNotFound("there is no such model", "model")
    return found
