"""The deployment that knows the models, the keys and the files of all users.

    Ingress, Trainer  --calls-->  Catalog  --compare-and-swap-->  users/<user>/models.json

Reads are answered from memory, mostly from that of an ingress replica (catalog.cache_leases). Every change is
written to the bucket before anybody can see it. The process may therefore die at any moment: the next one
reads what was written. While storage cannot be reached, lists in memory are still served, and a read of a
list that was never loaded raises `Unavailable`.

The newest Catalog on a bucket leads (registry.leadership). One that was superseded still reads, authenticates
and revokes keys, and refuses everything else.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from registry.errors import RevisionNotFound, Superseded
from registry.file_lists import FileLimits
from registry.file_records import FileRecord
from registry.keys import ApiKeys, ListedKey
from registry.layout import open_bucket
from registry.leadership import CATALOG, Leadership, Unopposed
from registry.leftovers import Leftovers
from registry.records import KeyRecord, Manifest, ModelRecord, utc_now
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.user_models import UserModelStore
from serve_app.catalog.cache_leases import Forgotten, Leases, ReadModels, Renewal
from serve_app.catalog.creation import ModelCreation
from serve_app.catalog.model_lists import ModelLists, by_uid
from serve_app.catalog.names import Names
from serve_app.catalog.references import Resolver
from serve_app.catalog.user_files import UserFiles
from serve_app.catalog.user_keys import UserKeys
from serve_app.settings import LimitSettings, Settings
from serve_app.wire.models import ChangeModel, CreateModel


class Catalog:
    """The deployment. Its methods are called through Ray handles, most of them for one user.

    Raises (all): `Unavailable` when storage is needed and cannot be reached.
    """

    def __init__(
        self, settings: Settings, lease_term_s: float = 0.0, cluster: Callable[[], str] | None = None
    ) -> None:
        """Opens the storage. `cluster` names the cluster; None: no other Catalog uses the bucket.

        Raises: `StorageUnfit` if its endpoint or its layout does not suit us.
        """
        store = ObjectStore(settings.storage)
        open_bucket(store)
        self._leadership = _leadership(store, cluster)
        epoch = self._leadership.epoch
        limits = settings.limits
        self._resolver = Resolver(settings)
        self._names = Names(self._resolver)
        self._leases = Leases(lease_term_s)
        self._keys = ApiKeys(store)
        self._user_keys = UserKeys(self._keys, limits.max_keys_per_user)
        self._revisions = Revisions(store)
        self._leftovers = Leftovers(store, epoch)
        self._files = UserFiles(store, _file_limits(limits), self._leadership)
        if not self._leadership.is_superseded:
            with suppress(Superseded):  # the later Catalog sweeps, too
                self._leftovers.sweep()
                self._files.sweep()
        self._lists = ModelLists(UserModelStore(store, epoch), self._leases, self._leadership)
        self._creation = ModelCreation(
            store, self._lists, self._resolver, limits.max_models_per_user, self._leadership
        )

    async def check_health(self) -> None:
        """Serve calls this. An error lets Serve start a Catalog that takes the leadership.

        Raises: Superseded, if this Catalog was superseded and an operator has released the leadership since.
        """
        if self._leadership.is_superseded:
            await self._leadership.look_quietly()
        if self._leadership.is_released:
            self._leadership.require()

    def apply(self, settings: Settings) -> None:
        """Changes the base models, the default one, and the limits. What exists already stays."""
        self._resolver.settings = settings
        self._user_keys.max_keys = settings.limits.max_keys_per_user
        self._files.limits = _file_limits(settings.limits)
        self._creation.max_models = settings.limits.max_models_per_user

    async def check_storage(self) -> None:
        """Makes one small read from storage."""
        await asyncio.to_thread(self._keys.lookup, "0" * 64)

    async def check_leadership(self) -> None:
        """Raises: Superseded, if another cluster has taken over the bucket."""
        self._leadership.look_soon()
        self._leadership.require()

    async def authenticate(self, key_hash: str) -> KeyRecord:
        """Reads the key with this hash from the bucket. Raises: InvalidApiKey: unknown, revoked, expired."""
        return await self._user_keys.authenticate(key_hash)

    async def create_key(
        self, user: str, name: str, expires: datetime | None, key_hash: str, maker_hash: str
    ) -> KeyRecord:
        """Makes another key of this user, if the key that makes it is valid.

        Raises: QuotaExceeded, RateLimited, InvalidApiKey.
        """
        await self._leadership.confirm()
        return await self._user_keys.create(user, name, expires, key_hash, maker_hash)

    async def list_keys(self, user: str) -> list[ListedKey]:
        """Returns the user's keys, oldest first, including expired ones."""
        return await self._user_keys.list(user)

    async def require_key(self, user: str, key_id: str, caller_hash: str) -> None:
        """Returns if the user has this key.

        Raises: KeyNotFound: unknown, or another user's; InvalidApiKey: the caller's key is not valid.
        """
        await self._user_keys.require(user, key_id, caller_hash)

    async def revoke_key(self, user: str, key_id: str, caller_hash: str) -> None:
        """Revokes a key.

        Raises: KeyNotFound: unknown, or another user's; InvalidApiKey: the caller's key is not valid.
        """
        await self._user_keys.revoke(user, key_id, caller_hash)

    async def require_room(self, user: str, size_bytes: int) -> None:
        """Refuses an upload for which there is no room. Raises: QuotaExceeded."""
        await self._files.require_room(user, size_bytes)

    async def add_file(self, user: str, record: FileRecord) -> None:
        """Lets a file exist whose bytes are complete. Raises: QuotaExceeded."""
        await self._files.add(user, record)

    async def delete_file(self, user: str, file_id: str) -> None:
        """Deletes a file. Raises: FileNotFound: unknown, or another user's."""
        await self._files.delete(user, file_id)

    async def private_models(self, user: str) -> tuple[ModelRecord, ...]:
        return (await self._lists.load(user)).models

    async def models(self, user: str, replica: str) -> ReadModels:
        """Returns the private models. An ingress replica may keep them while it has a lease."""
        return await self._lists.load_for(replica, user)

    async def renew(self, replica: str, forgotten: Forgotten) -> Renewal:
        """Renews the lease of an ingress replica, which confirms the models that it forgot.

        Raises: Superseded: another cluster may change the models, so nobody may keep them any more.
        """
        await self.check_leadership()
        return await self._leases.renew(replica, forgotten)

    async def create(
        self, user: str, request: CreateModel, idempotency_key: str | None = None
    ) -> ModelRecord:
        """Creates a private model. The weights of a trained parent are copied inside the bucket.

        Raises:
            ModelNotFound, RevisionNotFound, NameTaken, InvalidRequest, QuotaExceeded.
            IdempotencyConflict: the key was used with another body.
        """
        return await self._creation.create(user, request, idempotency_key)

    async def change(self, user: str, ref: str, request: ChangeModel) -> ModelRecord:
        """Changes name, description or defaults. Raises: ModelNotFound, ModelReadOnly, NameTaken."""
        target = await self.private_model(user, ref)

        def edit(model: ModelRecord, others: tuple[ModelRecord, ...]) -> ModelRecord:
            if request.name is not None and request.name != model.name:
                self._names.check_free(others, request.name)
            given = request.model_dump(include={"name", "description"}, exclude_none=True)
            return model.model_copy(update={**given, "defaults": request.over(model.defaults)})

        return await self._lists.edit(user, target.uid, edit)

    async def activate(self, user: str, ref: str, revision: int) -> ModelRecord:
        """Makes a revision the current one. Raises: ModelNotFound, ModelReadOnly, RevisionNotFound."""
        target = await self.private_model(user, ref)

        def edit(model: ModelRecord, others: tuple[ModelRecord, ...]) -> ModelRecord:
            if not 0 <= revision <= model.latest_revision:
                raise RevisionNotFound("the model has no such revision", "n")
            return model.model_copy(update={"revision": revision})

        return await self._lists.edit(user, target.uid, edit)

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        """Makes a new revision, whose manifest is written, the current one. Repeating it changes nothing.

        Raises: ModelNotFound when the model was deleted.
        """

        def edit(model: ModelRecord, others: tuple[ModelRecord, ...]) -> ModelRecord:
            if model.latest_revision >= revision:
                return model
            update = {"revision": revision, "latest_revision": revision, "last_modified": utc_now()}
            return model.model_copy(update=update)

        return await self._lists.edit(user, uid, edit)

    async def keep(self, user: str, uid: str, revision: int) -> ModelRecord:
        """Lets a new revision, whose manifest is written, be used. The current one stays what it is.

        Raises: ModelNotFound when the model was deleted.
        """

        def edit(model: ModelRecord, others: tuple[ModelRecord, ...]) -> ModelRecord:
            if model.latest_revision >= revision:
                return model
            return model.model_copy(update={"latest_revision": revision, "last_modified": utc_now()})

        return await self._lists.edit(user, uid, edit)

    async def delete(self, user: str, uid: str) -> None:
        """Deletes a model and its revisions from storage. Raises: ModelNotFound."""
        await self._leadership.confirm()
        await asyncio.to_thread(self._leftovers.mark, user, uid)
        await self._lists.remove(user, uid)
        await asyncio.to_thread(self._leftovers.delete_model, uid)

    async def private_model(self, user: str, ref: str) -> ModelRecord:
        """Finds a private model. Raises: ModelNotFound, ModelReadOnly, InvalidRequest."""
        return self._resolver.private_model(await self.private_models(user), ref)

    async def model_by_uid(self, user: str, uid: str) -> ModelRecord:
        """Returns the model with this uid. Raises: ModelNotFound."""
        return by_uid(await self._lists.load(user), uid)

    async def revisions(self, user: str, ref: str) -> list[Manifest]:
        """Returns the published revisions, newest first. Raises: ModelNotFound, ModelReadOnly."""
        model = await self.private_model(user, ref)
        manifests = await asyncio.to_thread(self._revisions.list, model.uid)
        return [manifest for manifest in manifests if manifest.revision <= model.latest_revision]

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


def _file_limits(limits: LimitSettings) -> FileLimits:
    return FileLimits(limits.max_files_per_user, limits.max_file_bytes_per_user)


def _leadership(store: ObjectStore, cluster: Callable[[], str] | None) -> Unopposed:
    """Takes the leadership, unless the cluster was superseded. Raises: Unavailable."""
    if cluster is None:
        return Unopposed()
    leadership = Leadership(store, CATALOG, cluster())
    leadership.take()
    return leadership
