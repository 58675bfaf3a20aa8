"""The training controller as a deployment. Clients connect it to the Catalog and the model servers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ray import serve
from ray.serve.handle import DeploymentHandle

from registry.errors import Superseded, TigerError, Unavailable
from registry.leadership import TRAINER, Leadership
from registry.meter import Meter
from registry.records import ModelRecord
from registry.store import ObjectStore
from registry.usage import UsageParts
from serve_app.catalog.client import CatalogClient
from serve_app.model_server.client import ModelClient
from serve_app.remote_errors import as_tiger_error
from serve_app.replica_address import listen_at_the_node
from serve_app.resource_waits import ResourceWaits
from serve_app.settings import Settings
from serve_app.this_cluster import this_cluster
from serve_app.training_metrics import RayTrainingMetrics
from training.controller.controller import TrainingController
from training.worker.loop import RunConfiguration, start_run

StartRun = Callable[[RunConfiguration, Callable[[], None]], None]

T = TypeVar("T")


class ServingSide:
    """A `controller.Publisher` that calls the Catalog and the model server replicas."""

    def __init__(self, catalog: CatalogClient, servers: dict[str, ModelClient]) -> None:
        self._catalog = catalog
        self._servers = servers

    async def model(self, user: str, uid: str) -> ModelRecord:
        return await _led(self._catalog.model_by_uid(user, uid))

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        return await _led(self._catalog.publish(user, uid, revision))

    async def preload(self, base_model: str, adapter_id: str) -> None:
        await self._servers[base_model].preload(adapter_id)

    async def delete(self, user: str, uid: str, base_model: str) -> None:
        await _led(self._catalog.delete(user, uid))
        await self._servers[base_model].unload(uid)

    async def finish_generations(self, base_model: str) -> None:
        await _reached(self._servers[base_model].finish_generations())

    async def lend_gpu(self, base_model: str) -> None:
        await _reached(self._servers[base_model].lend_gpu())

    async def take_back_gpu(self, base_model: str) -> None:
        """Wakes the replicas. Every error is `Unavailable`, so that the controller repeats the call.

        Replicas that stay asleep would keep all requests waiting without end.
        """
        try:
            await _reached(self._servers[base_model].take_back_gpu())
        except TigerError as error:
            raise Unavailable(error.message) from error

    async def num_waiting_for_gpu(self, base_model: str) -> int:
        return await _reached(self._servers[base_model].num_waiting_for_gpu())


async def _reached(response: Awaitable[T]) -> T:
    """Waits for a call. If the replica dies, it raises `Unavailable`, and the controller repeats the call."""
    try:
        return await response
    except Exception as error:
        raise as_tiger_error(error) from error


async def _led(response: Awaitable[T]) -> T:
    """Waits for a call of the Catalog. If that Catalog was superseded, it raises `Unavailable`.

    The next Catalog of this cluster may already lead. If another cluster leads, its Trainer supersedes ours.
    """
    try:
        return await _reached(response)
    except Superseded as error:
        raise Unavailable(error.message) from error


class Trainer(TrainingController):
    """The one replica of the training deployment."""

    async def __init__(  # type: ignore[misc]
        self,
        settings: Settings,
        catalog: DeploymentHandle[Any],
        servers: dict[str, DeploymentHandle[Any]],
        start_run: StartRun = start_run,
        cluster: Callable[[], str] = this_cluster,
    ) -> None:
        listen_at_the_node()
        self._configured = settings
        self._start_run = start_run
        store = ObjectStore(settings.storage)
        client = CatalogClient(catalog)
        self._waits = ResourceWaits()
        await client.check_storage()  # the catalog makes the bucket
        self._leadership = Leadership(store, TRAINER, cluster())
        await asyncio.to_thread(self._leadership.take)
        super().__init__(
            store,
            ServingSide(client, {name: ModelClient(handle) for name, handle in servers.items()}),
            {model.id: model.training for model in settings.models},
            self._run,
            settings.limits.max_queued_jobs_per_user,
            RayTrainingMetrics(),
            Meter(UsageParts(store), settings.usage.flush_interval_s),
            shortage=self._shortage_of,
            leadership=self._leadership,
        )
        self._meter.start()
        await self.recover()

    async def check_health(self) -> None:
        """Serve calls this. An error lets Serve start a Trainer that takes the leadership.

        Raises: Superseded, if this Trainer was superseded and an operator has released the leadership since.
        """
        if self._leadership.is_released:
            self._leadership.require()

    async def __del__(self) -> None:
        """Closes the meter. Serve awaits this when it stops the replica."""
        if hasattr(self, "_meter"):
            await self._meter.close()

    async def _shortage_of(self, base_model: str) -> str | None:
        training = self._configured.base_model(base_model).training
        return await asyncio.to_thread(
            self._waits.of_workers, training.num_workers, training.resources_per_worker
        )

    def _run(self, base_model: str, on_end: Callable[[], None]) -> None:
        model = self._configured.base_model(base_model)
        here = serve.get_replica_context()
        configuration = RunConfiguration(
            base_model=model.id,
            weights=model.weights_path(self._configured.weights_directory.expanduser()),
            max_context_tokens=model.max_context_tokens,
            chat_template=model.chat_template,
            settings=model.training,
            storage=self._configured.storage,
            application=here.app_name,
            controller=here.deployment,
        )
        self._start_run(configuration, on_end)
