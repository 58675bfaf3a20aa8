"""Exports metrics of trainings to Prometheus through Ray. Each node exports those of its own processes.

The only labels are the base model and the outcome. They have few values, and no names of users or private
models.
"""

from ray.util.metrics import Counter, Histogram

from registry.records import JobStatus
from serve_app.lasting_gauges import LastingGauges
from training.types import StepProgress

# These bounds reach from a job that starts at once to one of a night, with about two for each power of ten.
SECONDS = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0]
PUBLISH_SECONDS = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0]
STEP_GAUGES = {
    "loss": "Loss of the last optimizer step",
    "kl": "Mean KL estimate per token against the base model at the last step of GRPO, in nats",
    "reward_mean": "Mean reward of all responses of the training at the last step of GRPO",
    "grad_norm": "Norm of the gradient at the last optimizer step",
    "clip_ratio": "Fraction of completion tokens whose ratio was clipped at the last step of GRPO",
    "seconds": "Duration of the last optimizer step in seconds",
}


class RayTrainingMetrics:
    """A `metrics.TrainingMetrics`. Ray adds `ray_` before each name and `_total` after counters.

    It is made on the event loop that repeats its gauges.
    """

    def __init__(self) -> None:
        of_base_model = ("base_model",)
        self._gauges = LastingGauges()
        self._queue_length = self._gauges.add(
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
        self._publish = Histogram(
            "tiger_training_publish_seconds",
            "Time from the last optimizer step of a training until a replica has loaded its revision",
            PUBLISH_SECONDS,
            of_base_model,
        )
        self._tokens = Counter(
            "tiger_training_tokens",
            "Completion tokens times optimizer steps, of the trainings that succeeded",
            of_base_model,
        )
        self._steps = Counter("tiger_training_steps", "Optimizer steps made", of_base_model)
        self._last_step = {
            name: self._gauges.add(f"tiger_training_step_{name}", description, of_base_model)
            for name, description in STEP_GAUGES.items()
        }
        self._gauges.start()

    def queued(self, base_model: str, num_jobs: int) -> None:
        self._queue_length.set(num_jobs, {"base_model": base_model})

    def started(self, base_model: str, wait_s: float) -> None:
        self._wait.observe(wait_s, {"base_model": base_model})

    def stepped(self, base_model: str, progress: StepProgress) -> None:
        labels = {"base_model": base_model}
        self._steps.inc(1, labels)
        for name, gauge in self._last_step.items():
            if (value := getattr(progress, name)) is not None:
                gauge.set(value, labels)

    def published(self, base_model: str, publish_s: float) -> None:
        self._publish.observe(publish_s, {"base_model": base_model})

    def ended(self, base_model: str, outcome: JobStatus, run_s: float, trained_tokens: int) -> None:
        self._job.observe(run_s, {"base_model": base_model, "outcome": outcome.value})
        if trained_tokens:
            self._tokens.inc(trained_tokens, {"base_model": base_model})
