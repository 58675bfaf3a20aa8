"""The resident Ray Train run of one base model: the base weights stay loaded for one job after another.

    TrainingController --start--> TorchTrainer.fit() in a thread --> worker: ResidentModel once, then
        next_assignment -> train -> publish (files, manifest) -> complete -> next_assignment -> ...
        next_assignment -> train until others have their turn    -> paused   -> next_assignment -> ...

The worker asks the controller for work through its handle. Ray Train restarts a worker that dies. It asks
again, and the controller gives it the jobs that it had, as new attempts.
"""

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import serve

from registry.records import Record
from registry.revisions import Revisions
from registry.settings import StorageSettings
from registry.store import ObjectStore
from training.runs import OnEnd, groups_of_new_run
from training.settings import TrainingSettings
from training.types import Instruction
from training.worker.controller_link import ControllerLink
from training.worker.run_controller import kill_controller
from training.worker.run_failure import failure_of
from training.worker.run_groups import remove_groups

logger = logging.getLogger(__name__)

GROUP_TIMEOUT_S = 4 * 3600
"""The time that workers wait for the first one, which may wait long for storage that is away."""
PLACEMENT_TIMEOUT_S = 24 * 3600
"""The time after which Ray Train gives up its place in Ray's queue for resources, and takes a new one."""
END_TIMEOUT_S = 10.0
"""The time that `EndRun` waits until the run's controller is dead."""
MAX_WORKER_FAILURES = 2
"""Ray Train starts the workers of one run again after so many failures. After one more, the run ends.

A new run costs more than new workers, but in between the run's resources are free, and its pauses grow.
"""
PROCESS_GROUP_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Variables that are hidden from accelerate, which would wrap the model. `worker.workers` is used instead."""


class RunConfiguration(Record):
    """Everything that a worker needs to start, as plain data."""

    base_model: str
    weights: str
    max_context_tokens: int
    chat_template: str | None = None
    settings: TrainingSettings
    storage: StorageSettings
    application: str
    controller: str


EndRun = Callable[[], None]
"""Ends a run, whatever it does. It blocks until the run's resources in Ray are given back."""


def start_run(configuration: RunConfiguration, on_end: OnEnd) -> EndRun:
    """Start the run in a thread. `on_end` is called on this event loop when it ends, also after an error."""
    loop = asyncio.get_running_loop()
    directory = tempfile.TemporaryDirectory(prefix="tiger-run-", ignore_cleanup_errors=True)
    groups = groups_of_new_run(configuration.application, configuration.base_model)

    def run() -> None:
        failure = None
        try:
            with directory:
                _fit(configuration, groups, directory.name)
        except Exception as error:
            logger.exception("the training run of %s ended with an error", configuration.base_model)
            failure = failure_of(error)
        finally:
            try:
                remove_groups(groups)
            finally:
                loop.call_soon_threadsafe(on_end, failure)

    thread = threading.Thread(target=run, name=f"train-{configuration.base_model}", daemon=True)
    thread.start()

    def end() -> None:
        if kill_controller(Path(directory.name)):
            thread.join(END_TIMEOUT_S)

    return end


def _fit(configuration: RunConfiguration, groups: str, directory: str) -> None:
    # With the default of 2 s, a job would wait so long at the start and at the end of a run.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PLACEMENT_TIMEOUT_S))
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from training.worker.process_group import PrivateTorchConfig
    from training.worker.run_mark import RunMark

    settings = configuration.settings
    TorchTrainer(
        work,
        train_loop_config=configuration.model_dump(),
        scaling_config=ScalingConfig(
            num_workers=settings.num_workers,
            use_gpu=settings.use_gpu,
            resources_per_worker=settings.resources_per_worker,
        ),
        torch_config=PrivateTorchConfig(
            backend="cpu:gloo,cuda:nccl" if settings.use_gpu else "gloo",
            timeout_s=GROUP_TIMEOUT_S,
            directory=directory,
        ),
        run_config=RunConfig(
            name=f"tiger-{configuration.base_model}",
            storage_path=directory,
            failure_config=FailureConfig(max_failures=MAX_WORKER_FAILURES),
            callbacks=[RunMark(groups, directory)],
        ),
    ).fit()


def work(config: dict[str, Any]) -> None:
    """Carry out orders until the controller says `leave`. Every worker runs this; the first asks for all."""
    from training.chat_template import use_template
    from training.worker.attempts import Attempts, WorkerContext
    from training.worker.resident_model import ResidentModel
    from training.worker.starting_point import StartingPoints
    from training.worker.workers import Workers

    configuration = RunConfiguration.model_validate(config)
    for name in PROCESS_GROUP_VARIABLES:
        os.environ.pop(name, None)
    link = ControllerLink(
        configuration.base_model,
        serve.get_deployment_handle(configuration.controller, configuration.application),
    )
    _choose_device(configuration.settings)
    workers = Workers()
    resident = ResidentModel(
        configuration.weights, configuration.settings, configuration.max_context_tokens, workers
    )
    use_template(resident.tokenizer, configuration.chat_template)
    revisions = Revisions(ObjectStore(configuration.storage))
    with (
        StartingPoints(revisions) as starting_points,
        Attempts(WorkerContext(resident, revisions, starting_points, link)) as attempts,
    ):
        while (order := workers.run_on_first(link.next_assignment)) != Instruction.LEAVE:
            attempts.carry_out(order)


def _choose_device(settings: TrainingSettings) -> None:
    if settings.use_gpu:
        import torch
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())
        # Beyond this, memory has run out for this worker, even if the GPU has more: the rest is for others.
        torch.cuda.set_per_process_memory_fraction(settings.gpu_memory_utilization)
