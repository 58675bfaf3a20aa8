"""The metrics of training for the operator: numbers by base model, never by user or private model.

TrainingController  ->  TrainingMetrics  ->  `serve_app.training_metrics`: Ray's Prometheus endpoint
"""

from typing import Protocol

from registry.records import JobStatus
from training.types import StepProgress


class TrainingMetrics(Protocol):
    """The metrics that the controller reports. It is a Protocol, so that the controller needs no Ray.

    The controller's event loop calls it often: an implementation only counts, and does not raise.
    """

    def queued(self, base_model: str, num_jobs: int) -> None:
        """Report the number of jobs that wait for their turn now."""

    def started(self, base_model: str, wait_s: float) -> None:
        """Report a job that was given to the run for the first time, `wait_s` after it was accepted."""

    def stepped(self, base_model: str, progress: StepProgress) -> None:
        """Report an optimizer step, also one of an attempt that is repeated later."""

    def published(self, base_model: str, publish_s: float) -> None:
        """Report a revision that replicas have loaded, `publish_s` after the last step of its training."""

    def ended(self, base_model: str, outcome: JobStatus, run_s: float, trained_tokens: int) -> None:
        """Report a job that ended, `run_s` after its first start; 0 if it never started."""


class NoMetrics:
    """Discards all metrics."""

    def queued(self, base_model: str, num_jobs: int) -> None: ...

    def started(self, base_model: str, wait_s: float) -> None: ...

    def stepped(self, base_model: str, progress: StepProgress) -> None: ...

    def published(self, base_model: str, publish_s: float) -> None: ...

    def ended(self, base_model: str, outcome: JobStatus, run_s: float, trained_tokens: int) -> None: ...
