"""Stores the state of a running job in the bucket, while the job makes its next steps."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.errors import Unavailable
from registry.retry import Retry
from registry.revisions import Revisions
from training.types import Assignment
from training.worker.state import TrainingState

logger = logging.getLogger(__name__)


class StoredStates:
    """The `state.States` of one attempt. Each turn of the attempt is a `with` block.

    The block ends after the last write. So nothing is written while the job waits, when it may be ended.

    Args:
        directory: a directory for this attempt alone, in which a copy of the state is made.
        interval_s: the time between two states.
        tell: sends a message to the job's followers. When it returns, all earlier events are durable: a step
            that is not repeated must not be missing from the job's events.
    """

    def __init__(
        self,
        revisions: Revisions,
        assignment: Assignment,
        directory: Path,
        interval_s: float,
        tell: Callable[[str], None],
        retry: Retry | None = None,
    ) -> None:
        self._revisions = revisions
        self._key = (assignment.uid, assignment.revision, assignment.job_id)
        self._is_first_attempt = assignment.attempt == 1
        self._directory = directory
        self._interval_s = interval_s
        self._tell = tell
        self._retry = retry or Retry()
        self._kept_at = time.monotonic()
        self._writer: ThreadPoolExecutor
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="state")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.shutdown(wait=True)

    def load(self) -> TrainingState | None:
        """The last stored state, or None. Waits while storage is away, as there may be a state.

        Raises: what `tell` raises.
        """
        if self._is_first_attempt:
            return None
        path = self._directory / "found.safetensors"
        if not self._retry.call(lambda: self._revisions.fetch_state(*self._key, path)):
            return None
        try:
            state = TrainingState.load(path)
        except Exception:
            # Another version may have written it. Its steps are lost, but not the job.
            logger.exception("the state of job %s cannot be read; it starts again", self._key[2])
            return None
        self._tell(f"Going on after step {state.step}")
        return state

    def is_due(self) -> bool:
        is_writing = self._writing is not None and not self._writing.done()
        return not is_writing and time.monotonic() - self._kept_at >= self._interval_s

    def keep(self, state: TrainingState) -> None:
        """Write the state in a thread. Raises: what `tell` raises."""
        self._tell(f"Keeping the state after step {state.step}")
        self._kept_at = time.monotonic()
        self._writing = self._writer.submit(self._write, state)

    def _write(self, state: TrainingState) -> None:
        path = self._directory / "kept.safetensors"
        try:
            state.save(path)
            self._revisions.save_state(*self._key, path)
            logger.info("job %s: state after step %d is kept", self._key[2], state.step)
        except (Unavailable, OSError):
            logger.warning("the state of job %s could not be kept", self._key[2], exc_info=True)
