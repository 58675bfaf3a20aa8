"""The training controller as a deployment. Clients connect it to the Catalog and the model servers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from ray import serve
from ray.serve.handle import DeploymentHandle

from registry.errors import Superseded, TigerError, Unavailable
from registry.file_records import FileRecord
from registry.leadership import TRAINER, Leadership
from registry.meter import Meter
from registry.records import ModelRecord
from registry.store import ObjectStore
from registry.tasks import start_apart
from registry.usage import UsageParts
from serve_app.base_model_handles import model_client
from serve_app.catalog.client import CatalogClient
from serve_app.catalog.references import not_deployed
from serve_app.deployed_settings import Document, core_settings, new_or_former
from serve_app.deployment_options import model_server_name
from serve_app.model_server.client import ModelClient
from serve_app.ray_private import user_config_of_this_replica
from serve_app.remote_errors import as_tiger_error
from serve_app.replica_address import listen_at_the_node
from serve_app.resource_waits import PendingGroup, RayCluster, ResourceWaits
from serve_app.settings import Settings
from serve_app.state_gauges import StateGauges
from serve_app.this_cluster import this_cluster
from serve_app.training_metrics import RayTrainingMetrics
from serve_app.wait_watch import Part, WaitWatch, wait_gauge
from training.controller.controller import TrainingController
from training.runs import OnEnd, groups_of
from training.worker.loop import EndRun, RunConfiguration, start_run
from training.worker.run_groups import remove_groups

logger = logging.getLogger("ray.serve")

StartRun = Callable[[RunConfiguration, OnEnd], EndRun]

T = TypeVar("T")


class ServingSide:
    """A `controller.Publisher` that calls the Catalog and the model server replicas."""

    def __init__(
        self, catalog: CatalogClient, servers: Mapping[str, ModelClient], epoch: int | None = None
    ) -> None:
        """`servers` has the replicas of the base models that are deployed now.

        `epoch` is that of the leadership of this Trainer; None: it has no rival.
        """
        self._epoch = epoch
        self._catalog = catalog
        self._servers = servers

    async def model(self, user: str, uid: str) -> ModelRecord:
        return await _led(self._catalog.model_by_uid(user, uid))

    async def publish(self, user: str, uid: str, revision: int) -> ModelRecord:
        return await _led(self._catalog.publish(user, uid, revision))

    async def keep(self, user: str, uid: str, revision: int) -> ModelRecord:
        return await _led(self._catalog.keep(user, uid, revision))

    async def preload(self, base_model: str, adapter_id: str) -> None:
        await self._server(base_model).preload(adapter_id)

    async def add_file(self, user: str, record: FileRecord) -> None:
        await _led(self._catalog.add_file(user, record))

    async def delete(self, user: str, uid: str, base_model: str) -> None:
        await _led(self._catalog.delete(user, uid))
        if base_model in self._servers:
            await self._servers[base_model].unload(uid)

    async def finish_generations(self, base_model: str) -> None:
        await _reached(self._server(base_model).finish_generations(self._epoch))

    async def lend_gpu(self, base_model: str) -> None:
        await _reached(self._server(base_model).lend_gpu(self._epoch))

    async def take_back_gpu(self, base_model: str) -> None:
        """Wakes the replicas. Every error but one is `Unavailable`, so that the controller repeats the call.

        Replicas that stay asleep would keep all requests waiting without end.

        Raises: Superseded: a later Trainer has the replicas, and wakes them.
        """
        try:
            await _reached(self._server(base_model).take_back_gpu(self._epoch))
        except Superseded:
            raise
        except TigerError as error:
            raise Unavailable(error.message) from error

    async def num_waiting_for_gpu(self, base_model: str) -> int:
        return await _reached(self._server(base_model).num_waiting_for_gpu())

    def _server(self, base_model: str) -> ModelClient:
        """Returns the replicas of a base model. Raises: Unavailable: it is not deployed."""
        if base_model not in self._servers:
            raise not_deployed(base_model)
        return self._servers[base_model]


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
    """The one replica of the training deployment.

    `args` are the settings with which it starts. It applies those of its `user_config` while it runs.
    """

    async def __init__(  # type: ignore[misc]
        self, args: Document, catalog: DeploymentHandle[Any], start_run: StartRun = start_run
    ) -> None:
        listen_at_the_node()
        self._args = args
        self._configured = settings = core_settings(args, user_config_of_this_replica())
        self._start_run = start_run
        self._servers = {model.id: model_client(model.id) for model in settings.models}
        self._application = serve.get_replica_context().app_name
        self._ends: dict[str, EndRun] = {}
        self._is_stopping = False
        self._state = StateGauges("Trainer")
        store = ObjectStore(settings.storage)
        client = CatalogClient(catalog)
        self._waits = ResourceWaits()
        await client.check_storage()  # the catalog makes the bucket
        self._leadership = Leadership(store, TRAINER, this_cluster())
        await asyncio.to_thread(self._leadership.take)
        super().__init__(
            store,
            ServingSide(client, self._servers, self._leadership.epoch),
            {model.id: model.training for model in settings.models},
            self._run,
            settings.limits.max_queued_jobs_per_user,
            RayTrainingMetrics(),
            Meter(UsageParts(store), settings.usage.flush_interval_s),
            shortage=self._shortage_of,
            end_run=self._end_run,
            leadership=self._leadership,
        )
        self._meter.start()
        self._wait_watch = start_apart(WaitWatch(RayCluster(), self._waiting_parts, wait_gauge()).watch())
        await asyncio.to_thread(remove_groups, groups_of(self._application))
        await self.recover()

    async def reconfigure(self, user_config: Document) -> None:
        """Changes the settings. Serve also calls it once at the start, when they are the same.

        A run whose settings have changed ends after its current job, and the next one has the new settings.
        """
        before = self._configured
        settings = new_or_former(core_settings, self._args, user_config, before)
        self._state.tell_refused(settings is before)
        if settings == before:
            return
        self._configured = settings
        self._meter.flush_interval_s = settings.usage.flush_interval_s
        base_models = {model.id for model in settings.models}
        for base_model in self._servers.keys() - base_models:
            del self._servers[base_model]
        for base_model in base_models - self._servers.keys():
            self._servers[base_model] = model_client(base_model)
        in_both = base_models & {model.id for model in before.models}
        await self.redeployment.apply(
            {model.id: model.training for model in settings.models},
            settings.limits.max_queued_jobs_per_user,
            {name for name in in_both if run_settings(name, settings) != run_settings(name, before)},
        )

    async def check_health(self) -> None:
        """Serve calls this. An error lets Serve start a Trainer that takes the leadership.

        Raises: Superseded, if this Trainer was superseded and an operator has released the leadership since.
        """
        self._state.tell_superseded(self._leadership.is_superseded)
        if self._leadership.is_released:
            self._leadership.require()

    async def __del__(self) -> None:
        """Ends the runs and closes the meter. Serve awaits this when it stops the replica."""
        if hasattr(self, "_meter"):
            self._is_stopping = True
            await asyncio.gather(*map(self._end_run, self._ends))
            await self._meter.close()

    async def _end_run(self, base_model: str) -> None:
        try:
            await asyncio.to_thread(self._ends[base_model])
        except Exception:
            logger.exception("the run of %s could not be ended", base_model)

    async def _shortage_of(self, base_model: str) -> str | None:
        return await asyncio.to_thread(self._waits.of_run, self._application, base_model)

    def _waiting_parts(self) -> dict[Part, Callable[[PendingGroup], bool]]:
        parts: dict[Part, Callable[[PendingGroup], bool]] = {}
        for model in self._configured.models:
            parts[model.id, "replica"] = partial(
                PendingGroup.is_of_replica, deployment=model_server_name(model.id)
            )
            parts[model.id, "training"] = partial(
                PendingGroup.is_of_run, application=self._application, base_model=model.id
            )
        return parts

    def _run(self, base_model: str, on_end: OnEnd) -> None:
        if self._is_stopping:
            return
        here = serve.get_replica_context()
        configuration = RunConfiguration(
            **run_settings(base_model, self._configured),
            storage=self._configured.storage,
            application=self._application,
            controller=here.deployment,
        )
        self._ends[base_model] = self._start_run(configuration, on_end)


def run_settings(base_model: str, settings: Settings) -> dict[str, Any]:
    """Returns the settings of the run of a base model."""
    model = settings.base_model(base_model)
    return {
        "base_model": model.id,
        "weights": model.weights_path(settings.weights_directory.expanduser()),
        "max_context_tokens": model.max_context_tokens,
        "chat_template": model.chat_template,
        "settings": model.training,
    }
