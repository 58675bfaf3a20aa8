"""A cluster as its bucket sees it: a Catalog, a Trainer and its training runs, without Ray.

Catalog and controller are the real ones. The runs stand in for Ray Train: their worker trains nothing.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from registry.errors import JobNotFound, Superseded, Unavailable
from registry.file_records import FileRecord
from registry.leadership import TRAINER, Leadership
from registry.meter import Meter
from registry.records import ModelRecord
from registry.retry import Retry
from registry.revisions import Revisions
from registry.store import ObjectStore
from registry.usage import UsageParts
from serve_app.catalog.catalog import Catalog
from serve_app.settings import Settings
from tests.support.catalogs import write_adapter
from training.controller.controller import TrainingController
from training.settings import TrainingSettings
from training.types import Assignment, Instruction

BASE = "base"
TOKENS = 42
LOOK_INTERVAL_S = 0.3
SOON = Retry(first_pause_s=0.01, longest_pause_s=0.05)


class OwnCatalog:
    """A `controller.Publisher` without model servers."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def model(self, user: str, uid: str) -> ModelRecord:
        return await self._catalog.model_by_uid(user, uid)

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        try:
            return await self._catalog.publish(user, uid, revision)
        except Superseded as error:  # as the client of the Trainer does
            raise Unavailable(error.message) from error

    async def add_file(self, user: str, record: FileRecord) -> None:
        await self._catalog.add_file(user, record)

    async def keep(self, user: str, uid: str, revision: int) -> ModelRecord:
        return await self._catalog.keep(user, uid, revision)

    async def delete(self, user: str, uid: str, base_model: str) -> None:
        await self._catalog.delete(user, uid)

    async def preload(self, base_model: str, adapter_id: str) -> None: ...

    async def finish_generations(self, base_model: str) -> None: ...

    async def lend_gpu(self, base_model: str) -> None: ...

    async def take_back_gpu(self, base_model: str) -> None: ...

    async def num_waiting_for_gpu(self, base_model: str) -> int:
        return 0


class BucketCluster:
    """A cluster that takes over the bucket when it is made. `begin` comes next."""

    def __init__(self, settings: Settings, name: str, directory: Path) -> None:
        store = ObjectStore(settings.storage)
        self.catalog = Catalog(settings, cluster=lambda: name)
        leadership = Leadership(store, TRAINER, name)
        leadership.take()
        self.meter = Meter(UsageParts(store))
        self.runs: list[asyncio.Task[None]] = []
        self._revisions = Revisions(store)
        self._directory = directory / name
        write_adapter(self._directory, b"weights")
        self.trainer = TrainingController(
            store,
            OwnCatalog(self.catalog),
            {BASE: TrainingSettings(idle_timeout_s=3600)},
            self._start_run,
            max_queued_jobs_per_user=100,
            meter=self.meter,
            retry=SOON,
            leadership=leadership,
            look_interval_s=LOOK_INTERVAL_S,
        )

    async def begin(self) -> None:
        await self.trainer.recover()

    def _start_run(self, base_model: str, on_end: Callable[[], None]) -> None:
        run = asyncio.ensure_future(self._work())
        run.add_done_callback(lambda _: on_end())
        self.runs.append(run)

    async def _work(self) -> None:
        worker = await self.trainer.enter(BASE)
        while (order := await self.trainer.next_assignment(BASE, worker)) is not Instruction.LEAVE:
            if isinstance(order, Assignment):
                try:
                    await self._train(order)
                except JobNotFound:
                    continue

    async def _train(self, order: Assignment) -> None:
        attempt = order.job_id, order.attempt
        await self.trainer.inform(*attempt, f"Saving revision {order.revision}")
        await asyncio.to_thread(self._publish, order)
        await self.trainer.complete(*attempt)

    def _publish(self, order: Assignment) -> None:
        self._revisions.publish(
            order.uid,
            self._directory,
            revision=order.revision,
            parent_revision=order.parent_revision,
            job=order.job_id,
            base_model=BASE,
            metrics={"loss": 0.5, "trained_tokens": TOKENS, "duration_s": 0.1},
        )
