"""The Catalog for its callers. Reads are repeated if the replica dies before it answers; changes are not."""

from datetime import datetime
from typing import Any

from ray.serve.handle import DeploymentHandle

from registry.deployment_calls import DeploymentCalls
from registry.file_records import FileRecord
from registry.keys import ListedKey
from registry.records import KeyRecord, Manifest, ModelRecord
from serve_app.catalog.cache_leases import Forgotten, ReadModels, Renewal
from serve_app.catalog.catalog import Catalog
from serve_app.repeated_reads import answered
from serve_app.wire.models import ChangeModel, CreateModel


class CatalogClient:
    """Calls the Catalog. The methods and their errors are those of `Catalog`.

    Raises (all): errors of Ray Serve, which `remote_errors.as_tiger_error` turns into our own.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._catalog: DeploymentCalls[Catalog] = DeploymentCalls(handle)

    async def check_storage(self) -> None:
        await self._catalog.call(Catalog.check_storage)

    async def check_leadership(self) -> None:
        await self._catalog.call(Catalog.check_leadership)

    async def authenticate(self, key_hash: str) -> KeyRecord:
        return await answered(lambda: self._catalog.call(Catalog.authenticate, key_hash))

    async def create_key(
        self, user: str, name: str, expires: datetime | None, key_hash: str, maker_hash: str
    ) -> KeyRecord:
        return await self._catalog.call(Catalog.create_key, user, name, expires, key_hash, maker_hash)

    async def list_keys(self, user: str) -> list[ListedKey]:
        return await answered(lambda: self._catalog.call(Catalog.list_keys, user))

    async def require_key(self, user: str, key_id: str, caller_hash: str) -> None:
        await answered(lambda: self._catalog.call(Catalog.require_key, user, key_id, caller_hash))

    async def revoke_key(self, user: str, key_id: str, caller_hash: str) -> None:
        await self._catalog.call(Catalog.revoke_key, user, key_id, caller_hash)

    async def require_room(self, user: str, size_bytes: int) -> None:
        await self._catalog.call(Catalog.require_room, user, size_bytes)

    async def add_file(self, user: str, record: FileRecord) -> None:
        await self._catalog.call(Catalog.add_file, user, record)

    async def delete_file(self, user: str, file_id: str) -> None:
        await self._catalog.call(Catalog.delete_file, user, file_id)

    async def models(self, user: str, replica: str) -> ReadModels:
        return await answered(lambda: self._catalog.call(Catalog.models, user, replica))

    async def renew(self, replica: str, forgotten: Forgotten) -> Renewal:
        return await self._catalog.call(Catalog.renew, replica, forgotten)

    async def create(self, user: str, request: CreateModel, idempotency_key: str | None) -> ModelRecord:
        return await self._catalog.call(Catalog.create, user, request, idempotency_key)

    async def change(self, user: str, ref: str, request: ChangeModel) -> ModelRecord:
        return await self._catalog.call(Catalog.change, user, ref, request)

    async def activate(self, user: str, ref: str, revision: int) -> ModelRecord:
        return await self._catalog.call(Catalog.activate, user, ref, revision)

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        return await self._catalog.call(Catalog.publish, user, uid, revision)

    async def keep(self, user: str, uid: str, revision: int) -> ModelRecord:
        return await self._catalog.call(Catalog.keep, user, uid, revision)

    async def delete(self, user: str, uid: str) -> None:
        await self._catalog.call(Catalog.delete, user, uid)

    async def model_by_uid(self, user: str, uid: str) -> ModelRecord:
        return await self._catalog.call(Catalog.model_by_uid, user, uid)

    async def revisions(self, user: str, ref: str) -> list[Manifest]:
        return await answered(lambda: self._catalog.call(Catalog.revisions, user, ref))

    async def manifest(self, user: str, ref: str, revision: int) -> tuple[ModelRecord, Manifest]:
        return await answered(lambda: self._catalog.call(Catalog.manifest, user, ref, revision))
