"""What an operator sees of training over time: numbers by base model, never by user or private model.

TrainingController  ->  TrainingMetrics  ->  `serve_app.training_metrics`: Ray's Prometheus endpoint
"""

from typing import Protocol

from registry.records import JobStatus
from training.types import StepProgress


class TrainingMetrics(Protocol):
    """Called from the controller's event loop, often: an implementation only counts, and does not raise.

    A Protocol, so that the controller needs no Ray.
    """

    def queued(self, base_model: str, num_jobs: int) -> None:
        """So many jobs wait for their turn now."""

    def started(self, base_model: str, wait_s: float) -> None:
        """A job was given to the run for the first time."""

    def stepped(self, base_model: str, progress: StepProgress) -> None:
        """An optimizer step was made, be it in an attempt that is repeated later."""

    def ended(self, base_model: str, outcome: JobStatus, run_s: float, trained_tokens: int) -> None:
        """A job reached its end, `run_s` after its first start; 0 when it never started."""


class NoMetrics:
    """Nobody looks."""

    def queued(self, base_model: str, num_jobs: int) -> None: ...

    def started(self, base_model: str, wait_s: float) -> None: ...

    def stepped(self, base_model: str, progress: StepProgress) -> None: ...

    def ended(self, base_model: str, outcome: JobStatus, run_s: float, trained_tokens: int) -> None: ...
