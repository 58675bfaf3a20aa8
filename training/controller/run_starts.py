"""Tells the jobs of a base model why its run does not start, and ends a start that nobody wants any more.

start_run  ->  no worker has entered yet  ->  what do the workers wait for?  ->  an event for each waiting job
the run ends with an error before a worker has entered                       ->  an event for each waiting job
no worker has entered, and the run is to end: it cannot be told to leave     ->  it is ended
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from registry.tasks import BackgroundTasks
from training.controller.active_jobs import ActiveJobs
from training.controller.dispatcher import Dispatcher, StartRun
from training.controller.shared_gpus import SharedGpus
from training.runs import OnEnd

logger = logging.getLogger("ray.serve")

LOOK_INTERVAL_S = 2.0

Shortage = Callable[[str], Awaitable[str | None]]
"""Returns what the workers of a base model's run wait for, such as `1 GPU (0 of 1 free)`, or None."""


EndRun = Callable[[str], Coroutine[Any, Any, None]]
"""Ends the run of a base model, whatever it does. It raises no error."""


async def nothing_ends(base_model: str) -> None:
    """End nothing: the workers of the run enter some time, and are told to leave."""


async def no_shortage(base_model: str) -> None:
    """Say that no worker waits for resources."""


class RunStarts:
    """A watch over the starts of runs."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        active: ActiveJobs,
        gpus: SharedGpus,
        launch: StartRun,
        shortage: Shortage,
        end_run: EndRun = nothing_ends,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        self._dispatcher = dispatcher
        self._active = active
        self._gpus = gpus
        self._launch = launch
        self._shortage = shortage
        self._background = BackgroundTasks()
        self._end_run = end_run
        self._look_interval_s = look_interval_s
        # By base model: the last message that each waiting job got.
        self._told: defaultdict[str, dict[str, str]] = defaultdict(dict)

    def begin(self, base_model: str, on_end: OnEnd) -> None:
        """Start a run, and watch its start. When it ends, the replicas get the GPU back that it had."""

        def end(failure: str | None = None) -> None:
            self._background.start(self._gpus.take_back(base_model))
            is_start = self._dispatcher.is_starting(base_model)
            if failure is not None and is_start and not self._dispatcher.is_unwanted(base_model):
                self._background.start(self.failed(base_model, failure))
            on_end(failure)

        self._launch(base_model, end)
        self._background.start(self.watch(base_model))

    async def watch(self, base_model: str) -> None:
        """Tell each waiting job once what its run waits for. Returns when a worker has entered.

        The settings of the run may have changed meanwhile, so that it would wait for ever with the old ones.
        """
        while self._dispatcher.is_starting(base_model):
            await asyncio.sleep(self._look_interval_s)
            if self._dispatcher.is_starting(base_model) and self._dispatcher.is_unwanted(base_model):
                await self._end_run(base_model)
                continue
            try:
                shortage = await self._shortage(base_model)
            except Exception:
                logger.exception("it is not known what the run of %s waits for", base_model)
                continue
            if shortage is not None and self._dispatcher.is_starting(base_model):
                await self._tell(base_model, f"The training waits for {shortage}")

    async def failed(self, base_model: str, failure: str) -> None:
        """Tell each waiting job why the workers of its run failed before one of them had entered."""
        logger.error("the workers of the run of %s do not start: %s", base_model, failure)
        await self._tell(base_model, f"The training cannot start and is tried again: {failure}")

    async def _tell(self, base_model: str, message: str) -> None:
        told = self._told[base_model]
        waiting = self._dispatcher.waiting(base_model)
        for job_id in waiting:
            job = self._active.get(job_id)
            if job is not None and not job.record.is_held and told.get(job_id) != message:
                told[job_id] = message
                await job.emit(type="info", message=message)
        for job_id in told.keys() - set(waiting):
            del told[job_id]
