"""The resident Ray Train run of one base model: base weights stay, jobs come and go.

    TrainingController --start--> TorchTrainer.fit() in a thread --> worker: Policy once, then
        next_assignment -> train -> publish (files, manifest) -> complete -> next_assignment -> ...

The worker asks the controller for work through its Serve handle. A worker that dies is started again by
Ray Train and asks again; the controller then gives it the same job as a new attempt.
"""

import asyncio
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from registry.errors import JobNotFound, TigerError, Unavailable
from registry.records import Record
from registry.revisions import Revisions
from registry.settings import StorageSettings
from registry.store import ObjectStore
from training.patience import until_storage
from training.settings import TrainingSettings
from training.types import Assignment, Cancelled, ShardedOutOfMemory, StepProgress, TrainingOutcome

if TYPE_CHECKING:
    from training.parent import Parents
    from training.policy import Policy

logger = logging.getLogger(__name__)

RETRY_S = 1.0
CALL_TIMEOUT_S = 60.0
GROUP_TIMEOUT_S = 4 * 3600
"""How long workers wait for the first one, which waits for storage as long as that is away."""
PROCESS_GROUP_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Hidden from accelerate, which would wrap the model: what workers share goes through `training.workers`."""


class RunConfiguration(Record):
    """Everything a worker needs, as plain data."""

    base_model: str
    weights: str
    max_context_tokens: int
    settings: TrainingSettings
    storage: StorageSettings
    application: str
    controller: str


def start_run(configuration: RunConfiguration, on_end: Callable[[], None]) -> None:
    """Start the run in a thread; `on_end` is called on this event loop when it has ended, however."""
    loop = asyncio.get_running_loop()

    def run() -> None:
        try:
            _fit(configuration)
        except Exception:
            logger.exception("the training run of %s ended with an error", configuration.base_model)
        finally:
            loop.call_soon_threadsafe(on_end)

    threading.Thread(target=run, name=f"train-{configuration.base_model}", daemon=True).start()


def _fit(configuration: RunConfiguration) -> None:
    # The default of 2 s is what a job would wait for at the start and the end of a run.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from training.process_group import PrivateTorchConfig

    settings = configuration.settings
    with tempfile.TemporaryDirectory(prefix="tiger-run-", ignore_cleanup_errors=True) as directory:
        TorchTrainer(
            work,
            train_loop_config=configuration.model_dump(),
            scaling_config=ScalingConfig(
                num_workers=settings.num_workers,
                use_gpu=settings.use_gpu,
                resources_per_worker={"CPU": settings.cpus_per_worker}
                | ({"GPU": settings.gpus_per_worker} if settings.use_gpu else {}),
            ),
            torch_config=PrivateTorchConfig(
                backend="cpu:gloo,cuda:nccl" if settings.use_gpu else "gloo",
                timeout_s=GROUP_TIMEOUT_S,
                directory=directory,
            ),
            run_config=RunConfig(
                name=f"tiger-{configuration.base_model}",
                storage_path=directory,
                failure_config=FailureConfig(max_failures=-1),
            ),
        ).fit()


class ControllerLink:
    """The controller as a worker sees it: synchronous, and patient while it is being replaced."""

    AWAY = (Unavailable, RayActorError, RayServeException, TimeoutError)

    def __init__(self, base_model: str, handle: DeploymentHandle) -> None:
        self._base_model = base_model
        self._handle = handle
        self._name: str | None = None
        self._sent: tuple[DeploymentResponse, tuple[Any, ...]] | None = None
        self._is_cancelled = False

    def next_assignment(self) -> Assignment | str:
        """To a controller that took the place of the one entered with, this worker is a stranger: `leave`."""
        if self._name is None:
            self._name = self._call("enter", self._base_model)
        answer: Assignment | str = self._call("next_assignment", self._base_model, self._name)
        return answer

    def inform(self, assignment: Assignment, message: str) -> None:
        self._is_cancelled = self._call("inform", assignment.job_id, assignment.attempt, message)

    def is_cancelled(self) -> bool:
        """Whether the controller said so in its last answer."""
        self._settle()
        return self._is_cancelled

    def stopped(self, assignment: Assignment) -> None:
        self._call("stopped", assignment.job_id, assignment.attempt)

    def progress(self, assignment: Assignment, step: StepProgress) -> None:
        """Send without waiting for the answer; the next call, whichever it is, sees what came of it."""
        self._settle()
        report = (assignment.job_id, assignment.attempt, step)
        self._sent = self._handle.progress.remote(*report), report

    def complete(self, assignment: Assignment) -> None:
        self._call("complete", assignment.job_id, assignment.attempt)

    def fail(self, assignment: Assignment, code: str, message: str) -> None:
        self._call("fail", assignment.job_id, assignment.attempt, code, message)

    def _settle(self) -> None:
        """See what came of the last progress. One that did not get through is reported again."""
        if self._sent is None:
            return
        (response, report), self._sent = self._sent, None
        try:
            self._is_cancelled = self._result(response)
        except self.AWAY:
            self._is_cancelled = self._call("progress", *report)

    def _call(self, method: str, *arguments: Any) -> Any:
        while True:
            try:
                self._settle()
                return self._result(getattr(self._handle, method).remote(*arguments))
            except self.AWAY as error:
                logger.warning("%s: the controller does not answer (%s)", method, type(error).__name__)
                time.sleep(RETRY_S)

    def _result(self, response: DeploymentResponse) -> Any:
        try:
            return response.result(timeout_s=CALL_TIMEOUT_S)
        except RayTaskError as error:
            if isinstance(error.cause, TigerError):
                raise error.cause from None
            raise


def work(config: dict[str, Any]) -> None:
    """What every worker runs until the controller tells it to leave. The first one speaks for all."""
    from training.parent import Parents
    from training.policy import Policy
    from training.workers import Workers

    configuration = RunConfiguration.model_validate(config)
    for name in PROCESS_GROUP_VARIABLES:
        os.environ.pop(name, None)
    link = ControllerLink(
        configuration.base_model,
        serve.get_deployment_handle(configuration.controller, configuration.application),
    )
    _choose_device(configuration.settings)
    workers = Workers()
    policy = Policy(configuration.weights, configuration.settings, configuration.max_context_tokens, workers)
    revisions = Revisions(ObjectStore(configuration.storage))
    with Parents(revisions) as parents:
        resident = Resident(policy, revisions, parents, link)
        while (assignment := workers.from_first(link.next_assignment)) != "leave":
            if isinstance(assignment, Assignment):
                attempt(resident, assignment)


def _choose_device(settings: TrainingSettings) -> None:
    if settings.use_gpu:
        import torch
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())


@dataclass(frozen=True)
class Resident:
    """What a worker has from one job to the next."""

    policy: "Policy"
    revisions: Revisions
    parents: "Parents"
    link: ControllerLink


def attempt(resident: Resident, assignment: Assignment) -> None:
    """One attempt at one job; its errors end the job, not the run. All workers come to the same end.

    Once the manifest is written the job has happened: if `complete` does not get through, the controller
    finds the manifest when it hands the job out again.

    Raises: ShardedOutOfMemory.
    """
    logger.info("job %s, attempt %d", assignment.job_id, assignment.attempt)
    try:
        with tempfile.TemporaryDirectory(prefix="tiger-job-") as directory:
            report = _train_and_publish(resident, assignment, Path(directory))
            if resident.policy.workers.is_first:
                report()
    except JobNotFound:
        logger.warning("attempt %d at job %s was given up", assignment.attempt, assignment.job_id)
    except TigerError:
        logger.exception("job %s could not be reported", assignment.job_id)


def _train_and_publish(resident: Resident, assignment: Assignment, directory: Path) -> Callable[[], None]:
    """What tells the controller how it ended. Raises: JobNotFound when the attempt was given up."""
    link = resident.link
    try:
        outcome = _train(resident, assignment, directory)
        if resident.policy.workers.is_first:
            _publish(resident, assignment, outcome, directory / "adapter")
        return lambda: _complete(resident, assignment)
    except (JobNotFound, ShardedOutOfMemory):
        raise
    except Cancelled:
        return lambda: link.stopped(assignment)
    except TigerError as error:
        code, message = error.code, error.message
        return lambda: link.fail(assignment, code, message)
    except Exception:
        logger.exception("job %s failed", assignment.job_id)
        message = "the training failed; the operator's log says why"
        return lambda: link.fail(assignment, "training_failed", message)


def _train(resident: Resident, assignment: Assignment, directory: Path) -> TrainingOutcome:
    from training.grpo import train
    from training.stored_states import StoredStates

    policy, link = resident.policy, resident.link
    workers = policy.workers
    workers.from_first(lambda: link.inform(assignment, f"Loading revision {assignment.parent_revision}"))
    parent, moments = workers.all_of(lambda: resident.parents.fetch(assignment, directory))

    def tell(message: str) -> None:
        if workers.is_first:
            link.inform(assignment, message)

    def progress(step: StepProgress) -> None:
        logger.info(
            "job %s step %d of %d: loss %.5f, KL %.5f, reward %.4f, %.3f s",
            *(assignment.job_id, step.step, step.steps, step.loss, step.kl, step.reward_mean, step.seconds),
        )
        link.progress(assignment, step)

    interval_s = policy.settings.state_interval_s
    with StoredStates(resident.revisions, assignment, directory, interval_s, tell) as states:
        outcome, made = train(
            policy,
            assignment,
            parent,
            directory / "adapter",
            on_step=progress,
            is_cancelled=link.is_cancelled,
            states=states,
            parent_moments=moments,
        )
    resident.parents.remember(made)
    return outcome


def _complete(resident: Resident, assignment: Assignment) -> None:
    """Nobody waits for the optimizer: it is kept once the job has ended."""
    resident.link.complete(assignment)
    resident.parents.keep(assignment)


def _publish(resident: Resident, assignment: Assignment, outcome: TrainingOutcome, adapter: Path) -> None:
    """Raises: Cancelled, JobNotFound."""
    link = resident.link
    link.inform(assignment, f"Saving revision {assignment.revision}")
    if link.is_cancelled():
        raise Cancelled(assignment.job_id)
    metrics = {
        **outcome.metrics,
        "trained_tokens": outcome.trained_tokens,
        "duration_s": outcome.duration_s,
    }
    until_storage(
        lambda: resident.revisions.publish(
            assignment.uid,
            adapter,
            revision=assignment.revision,
            parent_revision=assignment.parent_revision,
            job=assignment.job_id,
            base_model=assignment.base_model,
            metrics=metrics,
        )
    )
