"""A fake of the serving side for the training controller: records of models in memory."""

import asyncio

from registry.errors import NO_SUCH_MODEL, ModelNotFound, Superseded, Unavailable
from registry.file_records import FileRecord
from registry.records import ModelRecord


class ServingSide:
    """A Publisher over records in memory. It outlives the controllers of a test, as the real one does."""

    def __init__(self, *models: ModelRecord) -> None:
        self.models = {model.uid: model for model in models}
        self.swaps: list[tuple[str, int]] = []
        self.preloads: list[str] = []
        self.files: list[tuple[str, FileRecord]] = []
        self.has_gpu = True
        self.num_waiting = 0
        self.num_failures = 0
        self.is_replica_away = False
        self.has_later_trainer = False
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.may_delete = asyncio.Event()
        self.may_delete.set()

    async def model(self, user: str, uid: str) -> ModelRecord:
        if uid not in self.models:
            raise ModelNotFound(NO_SUCH_MODEL, "model")
        return self.models[uid]

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        model = await self.model(user, uid)
        if self.num_failures:
            self.num_failures -= 1
            raise Unavailable("storage cannot be reached")
        if model.latest_revision < revision:
            self.swaps.append((uid, revision))
            model = model.model_copy(update={"revision": revision, "latest_revision": revision})
            self.models[uid] = model
        return model

    async def keep(self, user: str, uid: str, revision: int) -> ModelRecord:
        model = await self.model(user, uid)
        if self.num_failures:
            self.num_failures -= 1
            raise Unavailable("storage cannot be reached")
        if model.latest_revision < revision:
            model = self.models[uid] = model.model_copy(update={"latest_revision": revision})
        return model

    async def preload(self, base_model: str, adapter_id: str) -> None:
        self.preloads.append(adapter_id)

    async def add_file(self, user: str, record: FileRecord) -> None:
        self.files.append((user, record))

    async def finish_generations(self, base_model: str) -> None:
        await self.may_finish.wait()

    async def lend_gpu(self, base_model: str) -> None:
        self._require_latest()
        self.has_gpu = False

    async def take_back_gpu(self, base_model: str) -> None:
        self._require_latest()
        if self.num_failures:
            self.num_failures -= 1
            raise Unavailable("the replicas cannot be reached")
        self.has_gpu = True

    async def num_waiting_for_gpu(self, base_model: str) -> int:
        if self.is_replica_away:
            raise Unavailable("the replicas cannot be reached")
        return self.num_waiting

    def _require_latest(self) -> None:
        if self.has_later_trainer:
            raise Superseded("a later Trainer leads")

    async def delete(self, user: str, uid: str, base_model: str) -> None:
        await self.may_delete.wait()
        await self.model(user, uid)
        del self.models[uid]
