"""Exports metrics of trainings to Prometheus through Ray. Each node exports those of its own processes.

The only labels are the base model and the outcome. They have few values, and no names of users or private
models.
"""

from ray.util.metrics import Counter, Gauge, Histogram

from registry.records import JobStatus
from training.types import StepProgress

# These bounds reach from a job that starts at once to one of a night, with about two for each power of ten.
SECONDS = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0]
STEP_GAUGES = {
    "loss": "Loss of the last optimizer step",
    "kl": "Mean KL estimate per token against the base model at the last optimizer step, in nats",
    "reward_mean": "Mean reward of all responses of the training at its last optimizer step",
    "grad_norm": "Norm of the gradient at the last optimizer step",
    "clip_ratio": "Fraction of completion tokens whose ratio was clipped at the last optimizer step",
    "seconds": "Duration of the last optimizer step in seconds",
}


class RayTrainingMetrics:
    """A `metrics.TrainingMetrics`. Ray adds `ray_` before each name and `_total` after counters."""

    def __init__(self) -> None:
        of_base_model = ("base_model",)
        self._queue_length = Gauge(
            "tiger_training_queue_length", "Trainings that wait for their turn", of_base_model
        )
        self._wait = Histogram(
            "tiger_training_wait_seconds",
            "Time from the acceptance of a training to its first start in seconds",
            SECONDS,
            of_base_model,
        )
        self._job = Histogram(
            "tiger_training_job_seconds",
            "Time from the first start of a training to its end in seconds; 0 when it never started",
            SECONDS,
            (*of_base_model, "outcome"),
        )
        self._tokens = Counter(
            "tiger_training_tokens",
            "Completion tokens times optimizer steps, of the trainings that succeeded",
            of_base_model,
        )
        self._steps = Counter("tiger_training_steps", "Optimizer steps made", of_base_model)
        self._last_step = {
            name: Gauge(f"tiger_training_step_{name}", description, of_base_model)
            for name, description in STEP_GAUGES.items()
        }

    def queued(self, base_model: str, num_jobs: int) -> None:
        self._queue_length.set(num_jobs, {"base_model": base_model})

    def started(self, base_model: str, wait_s: float) -> None:
        self._wait.observe(wait_s, {"base_model": base_model})

    def stepped(self, base_model: str, progress: StepProgress) -> None:
        labels = {"base_model": base_model}
        self._steps.inc(1, labels)
        for name, gauge in self._last_step.items():
            gauge.set(getattr(progress, name), labels)

    def ended(self, base_model: str, outcome: JobStatus, run_s: float, trained_tokens: int) -> None:
        self._job.observe(run_s, {"base_model": base_model, "outcome": outcome.value})
        if trained_tokens:
            self._tokens.inc(trained_tokens, {"base_model": base_model})
