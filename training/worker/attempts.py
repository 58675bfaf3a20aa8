"""The attempts that a worker of a resident run has begun: one has its turn, the others are paused.

    Assignment -> Attempt -> a turn -> ended: published or not, reported, forgotten
                               ^  |
                    Resumption |  v gave way
                             paused -> Dismissal: the job ended meanwhile, forgotten

The state of a paused job is a set of tensors on the CPU, or in a file if many jobs are paused. Nothing of a
paused job stays on the model or on the GPU.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.errors import JobNotFound, TigerError
from registry.retry import Retry
from registry.revisions import Revisions
from training.types import (
    Assignment,
    Cancelled,
    Dismissal,
    Order,
    Resumption,
    ShardedOutOfMemory,
    StepProgress,
    TrainingOutcome,
)
from training.worker.controller_link import Link
from training.worker.epoch_ends import MadeRevision
from training.worker.job import Training
from training.worker.resident_model import ResidentModel
from training.worker.starting_point import StartingPoints
from training.worker.stored_states import StoredStates

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerContext:
    """The objects that a worker keeps from one job to the next."""

    resident: ResidentModel
    revisions: Revisions
    starting_points: StartingPoints
    link: Link
    retry: Retry = field(default_factory=Retry)
    """Repeats the calls that fail while storage is away."""


class Attempts:
    """Carries out the controller's orders. All workers of a run get the same orders, in the same order."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        # In the order in which they paused.
        self._paused: dict[str, Attempt] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for job_id in list(self._paused):
            self._forget(job_id)

    def carry_out(self, order: Order) -> None:
        """Carry out an order; returns when the worker may ask for the next. Raises: ShardedOutOfMemory."""
        match order:
            case Assignment():
                self._forget(order.job_id)
                self._give_turn(Attempt(self._context, order))
            case Resumption():
                paused = self._paused.pop(order.job_id, None)
                if paused is None or paused.assignment.attempt != order.attempt:
                    # The worker asks for work again, and the controller then begins a new attempt.
                    logger.error("attempt %d at job %s is not here", order.attempt, order.job_id)
                    return
                self._give_turn(paused)
            case Dismissal():
                self._forget(order.job_id)

    def _give_turn(self, attempt: "Attempt") -> None:
        is_paused = False
        try:
            is_paused = attempt.take_turn()
        finally:
            if not is_paused:
                attempt.close()
        if is_paused:
            self._paused[attempt.assignment.job_id] = attempt
            in_memory = [paused for paused in self._paused.values() if paused.is_in_memory]
            if len(in_memory) > self._context.resident.settings.max_paused_in_memory:
                in_memory[0].put_aside()

    def _forget(self, job_id: str) -> None:
        if (paused := self._paused.pop(job_id, None)) is not None:
            paused.close()


class Attempt:
    """One attempt at one job. Its errors end the job, not the run. All workers come to the same end.

    When the manifest is written, the job has succeeded. If `complete` then does not reach the controller, the
    controller finds the manifest when it hands the job out again.
    """

    def __init__(self, context: WorkerContext, assignment: Assignment) -> None:
        self.assignment = assignment
        self.is_in_memory = True
        self._context = context
        self._link = context.link
        self._workers = context.resident.workers
        self._scratch = tempfile.TemporaryDirectory(prefix="tiger-job-")
        self._directory = Path(self._scratch.name)
        self._adapter = self._directory / "adapter"
        self._training: Training | None = None
        self._states = StoredStates(
            context.revisions,
            assignment,
            self._directory,
            context.resident.settings.state_interval_s,
            self._tell,
        )

    def close(self) -> None:
        self._scratch.cleanup()

    def put_aside(self) -> None:
        """Move the state from memory to a file, until the next turn."""
        assert self._training is not None
        self._training.put_aside(self._directory / "paused.safetensors")
        self.is_in_memory = False

    def take_turn(self) -> bool:
        """Train; return True if the job gave way and needs another turn. Raises: ShardedOutOfMemory."""
        assignment = self.assignment
        self.is_in_memory = True
        logger.info("job %s, attempt %d: its turn", assignment.job_id, assignment.attempt)
        try:
            report = self._train_and_publish()
            if report is None:
                self._workers.run_on_first(lambda: self._link.paused(assignment))
                return True
            if self._workers.is_first:
                report()
        except JobNotFound:
            logger.warning("attempt %d at job %s was given up", assignment.attempt, assignment.job_id)
        except TigerError:
            logger.exception("job %s could not be reported", assignment.job_id)
        return False

    def _train_and_publish(self) -> Callable[[], None] | None:
        """Train, and return the call that reports the end to the controller; None if the job gave way.

        Raises: JobNotFound when the attempt was given up.
        """
        link, assignment = self._link, self.assignment
        try:
            with self._states:
                made = self._begun().go_on()
            if made is None:
                return None
            outcome, optimizer_state = made
            self._context.starting_points.remember(optimizer_state)
            if self._workers.is_first:
                self._publish(outcome)
            return self._complete
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

    def _begun(self) -> Training:
        if self._training is None:
            assignment, context = self.assignment, self._context
            loading = f"Loading revision {assignment.parent_revision}"
            self._workers.run_on_first(lambda: self._link.inform(assignment, loading))
            parent, optimizer_state = self._workers.run_on_all(
                lambda: context.starting_points.fetch(assignment, self._directory)
            )
            self._training = Training(
                context.resident,
                assignment,
                parent,
                self._adapter,
                on_step=self._progress,
                look=lambda place: self._link.look(assignment, place),
                states=self._states,
                parent_optimizer=optimizer_state,
                borrowed_gpu=self._borrowed_gpu,
                keep=self._keep,
            )
        return self._training

    @contextmanager
    def _borrowed_gpu(self) -> Iterator[None]:
        """The replicas sleep during the block, if they share a GPU with the workers."""
        if not self._context.resident.settings.share_gpu:
            yield
            return
        self._workers.run_on_first(lambda: self._link.borrow_gpu(self.assignment))
        try:
            yield
        finally:
            if self._workers.is_first:
                self._link.return_gpu(self.assignment)

    def _tell(self, message: str) -> None:
        if self._workers.is_first:
            self._link.inform(self.assignment, message)

    def _progress(self, step: StepProgress) -> None:
        logger.info(
            "job %s step %d of %d: loss %.5f, gradient %.4f, %.3f s",
            self.assignment.job_id,
            *(step.step, step.steps, step.loss, step.grad_norm, step.seconds),
        )
        self._link.progress(self.assignment, step)

    def _complete(self) -> None:
        """Report the end, and only then save the optimizer state, for which nobody waits."""
        self._link.complete(self.assignment)
        self._context.starting_points.keep(self.assignment)

    def _publish(self, outcome: TrainingOutcome) -> None:
        """Write the last revision to the bucket. Raises: Cancelled, JobNotFound."""
        self._write(self.assignment.revision, self._adapter, outcome.numbers())

    def _keep(self, made: MadeRevision) -> None:
        """Write and report the revision of an epoch. Raises: Cancelled, JobNotFound."""
        self._write(made.revision, made.directory, made.metrics, made.step)
        self._link.keep(self.assignment, made.revision)

    def _write(
        self, revision: int, directory: Path, metrics: Mapping[str, float], step: int | None = None
    ) -> None:
        link, assignment = self._link, self.assignment
        link.inform(assignment, f"Saving revision {revision}")
        if link.is_cancelled():
            raise Cancelled(assignment.job_id)
        self._context.retry.call(
            lambda: self._context.revisions.publish(
                assignment.uid,
                directory,
                revision=revision,
                parent_revision=assignment.parent_revision,
                job=assignment.job_id,
                base_model=assignment.base_model,
                metrics=metrics,
                step=step,
            )
        )
