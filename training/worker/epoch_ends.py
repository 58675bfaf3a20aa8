"""The revisions that a job makes at the ends of its epochs, before its last one.

last step of an epoch  ->  the weights are checked  ->  adapter files  ->  `keep`: manifest and report
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from training.epochs import Epochs
from training.types import Assignment
from training.worker.adapter import save_adapter
from training.worker.packs import Row
from training.worker.resident_model import ResidentModel
from training.worker.soundness import check_soundness
from training.worker.validation import Trainer


class MadeRevision(NamedTuple):
    """The weights after a step, as adapter files. `directory` exists only during the call that gets this."""

    revision: int
    step: int
    directory: Path
    metrics: Mapping[str, float]


Keep = Callable[[MadeRevision], None]
"""Publishes a revision. Only the first worker calls it."""


def nothing_is_kept(made: MadeRevision) -> None:
    """Keep nothing, as for a job without a bucket."""


class EpochEnds:
    def __init__(
        self, resident: ResidentModel, assignment: Assignment, rows: Sequence[Row], keep: Keep
    ) -> None:
        self._workers = resident.workers
        self._assignment = assignment
        self._rows = rows
        self._keep = keep
        self._epochs = Epochs.of(assignment.request)

    def is_end(self, step: int) -> bool:
        """Return True if an epoch, or the job, ends with this step."""
        return self._epochs.is_end(step)

    def keeps_after(self, step: int) -> bool:
        """Return True if a revision is kept after this step."""
        return self._revision_after(step) is not None

    def keep(self, trainer: Trainer, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the revision after a step. All workers call this together. Raises: TrainingDiverged."""
        revision = self._revision_after(step)
        assert revision is not None, "no epoch with a revision ends here"
        with trainer.compute_loss_context_manager():
            self._workers.run_on_all(lambda: check_soundness(trainer.model, self._rows, step))

        def keep() -> None:
            with tempfile.TemporaryDirectory(prefix="tiger-epoch-") as directory:
                save_adapter(trainer.model, self._assignment.base_model, Path(directory))
                self._keep(MadeRevision(revision, step, Path(directory), metrics))

        self._workers.run_on_first(keep)

    def _revision_after(self, step: int) -> int | None:
        return self._epochs.checkpoint_after(step, self._assignment.revision)
