"""The starting point of a job: the adapter of the current revision, and the state of its optimizer."""

import logging
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.errors import Unavailable
from registry.retry import Retry
from registry.revisions import Revisions
from training.epochs import Epochs
from training.types import Assignment
from training.worker.state import OptimizerState

logger = logging.getLogger(__name__)


class StartingPoints:
    """The starting points of the jobs of one run. At the end of the block, the last state is in the bucket.

    The last optimizer state also stays in memory, because the next training is likely to continue with it.

    Args:
        quiet_s: the time before an optimizer state is written to the bucket. It leaves the machine to those
            who use a new revision first.
    """

    def __init__(self, revisions: Revisions, quiet_s: float = 2.0, retry: Retry | None = None) -> None:
        self._revisions = revisions
        self._quiet_s = quiet_s
        self._retry = retry or Retry()
        self._last: OptimizerState | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="optimizer")
        self._is_leaving = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_leaving.set()
        self._writer.shutdown(wait=True)

    def fetch(self, assignment: Assignment, directory: Path) -> tuple[Path | None, OptimizerState | None]:
        """A PEFT directory below `directory`, and the optimizer state.

        None stands for a fresh adapter or a new optimizer. Only the optimizer state of the latest revision is
        kept: a training of an older revision, of one within a job, or of a copy of another model, begins with
        a new optimizer.
        """
        if not assignment.has_parent_adapter:
            return None, None
        parent = directory / "parent"
        of = assignment.uid, assignment.parent_revision
        manifest = self._retry.call(lambda: self._revisions.fetch(*of, parent))
        if manifest.job is None or manifest.step is not None:
            return parent, None
        if self._last is not None and self._last.job == manifest.job:
            return parent, self._last.copy()
        path = directory / "parent-optimizer.safetensors"
        if not self._retry.call(lambda: self._revisions.fetch_optimizer(*of, path)):
            return parent, None
        try:
            optimizer_state = OptimizerState.load(path)
        except Exception:
            logger.exception("the optimizer of job %s cannot be read; a new one begins", manifest.job)
            return parent, None
        # A worker that was given up may have left the state of another job.
        return parent, optimizer_state if optimizer_state.job == manifest.job else None

    def remember(self, optimizer_state: OptimizerState) -> None:
        """Remember the state of a training that has ended. It is used only if its job made a revision."""
        self._last = optimizer_state

    def keep(self, assignment: Assignment) -> None:
        """Write the remembered state of a published training, in place of the model's earlier ones.

        Returns at once. An error of storage loses the state, and a training in another run then begins with
        a new optimizer.
        """
        if self._last is not None:
            self._writer.submit(self._write, assignment, self._last)

    def _write(self, assignment: Assignment, optimizer_state: OptimizerState) -> None:
        self._is_leaving.wait(self._quiet_s)
        uid, revision = assignment.uid, assignment.revision
        try:
            with tempfile.TemporaryDirectory(prefix="tiger-optimizer-") as directory:
                path = Path(directory) / "optimizer.safetensors"
                optimizer_state.save(path)
                self._revisions.save_optimizer(uid, revision, path)
            latest_before = revision - 1 - Epochs.of(assignment.request).num_checkpoints
            for earlier in {assignment.parent_revision, latest_before}:
                self._revisions.delete_optimizer(uid, earlier)
            if self._revisions.manifest(uid, revision) is None:  # the model was deleted meanwhile
                self._revisions.delete_optimizer(uid, revision)
        except (Unavailable, OSError):
            logger.warning("the optimizer of job %s could not be kept", assignment.job_id, exc_info=True)
