"""The records of trainings in the form of OpenAI's fine-tuning API."""

from collections.abc import Mapping

from registry.fine_tuning import FineTuning, result_file_id
from registry.records import JobRecord, JobStatus, Timestamp
from serve_app.wire.fine_tuning import (
    CheckpointMetrics,
    DpoHyperparameters,
    DpoMethod,
    FineTuningCheckpoint,
    FineTuningError,
    FineTuningJob,
    FineTuningMethod,
    SupervisedHyperparameters,
    SupervisedMethod,
)

SHOWN_METRICS = {
    "train_loss": ("loss",),
    "train_mean_token_accuracy": ("token_accuracy", "reward_accuracy"),
    "valid_loss": ("valid_loss",),
    "valid_mean_token_accuracy": ("valid_accuracy",),
}
"""The names of OpenAI's numbers, and those of ours. The first that a step has is shown."""


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the numbers of a step under OpenAI's names."""
    found = {
        shown: next((metrics[name] for name in names if name in metrics), None)
        for shown, names in SHOWN_METRICS.items()
    }
    return {shown: value for shown, value in found.items() if value is not None}


def answer_of(record: JobRecord) -> FineTuningJob:
    """Returns the answer about a job that was made with OpenAI's API."""
    shown = told(record)
    has_succeeded = record.status is JobStatus.SUCCEEDED
    method, hyperparameters = _method(shown)
    return FineTuningJob(
        id=record.id,
        created_at=_seconds(record.created),
        finished_at=None if record.finished is None else _seconds(record.finished),
        status=record.shown_status.value,
        model=shown.model,
        fine_tuned_model=record.model if has_succeeded else None,
        training_file=shown.training_file,
        validation_file=shown.validation_file,
        result_files=(result_file_id(record.id),) if has_succeeded else (),
        trained_tokens=record.trained_tokens if has_succeeded else None,
        error=_error(record),
        method=method,
        hyperparameters=hyperparameters,
        seed=shown.seed,
        metadata=shown.metadata,
    )


def checkpoints_of(record: JobRecord) -> list[FineTuningCheckpoint]:
    """Returns the revisions that a job has made so far, one for each epoch, newest first."""
    made = [(each.revision, each.step, each.created, each.metrics) for each in record.checkpoints]
    if record.status is JobStatus.SUCCEEDED and record.revision is not None and record.finished is not None:
        made.append((record.revision, record.steps, record.finished, record.metrics))
    return [_checkpoint(record, *each) for each in reversed(made)]


def told(record: JobRecord) -> FineTuning:
    assert record.fine_tuning is not None
    return record.fine_tuning


def _checkpoint(
    record: JobRecord, revision: int, step: int, created: Timestamp, metrics: Mapping[str, float]
) -> FineTuningCheckpoint:
    numbers = shown_metrics(metrics)
    return FineTuningCheckpoint(
        id=f"ftckpt-{record.id.removeprefix('job-')}-{revision}",
        created_at=_seconds(created),
        fine_tuning_job_id=record.id,
        fine_tuned_model_checkpoint=f"{record.model}@{revision}",
        step_number=step,
        metrics=CheckpointMetrics(
            step=step,
            train_loss=numbers.get("train_loss"),
            train_mean_token_accuracy=numbers.get("train_mean_token_accuracy"),
            full_valid_loss=numbers.get("valid_loss"),
            full_valid_mean_token_accuracy=numbers.get("valid_mean_token_accuracy"),
        ),
    )


def _error(record: JobRecord) -> FineTuningError | None:
    if record.error is None:
        return None
    return FineTuningError(code=record.error.code, message=record.error.message, param=None)


def _method(shown: FineTuning) -> tuple[FineTuningMethod, SupervisedHyperparameters]:
    values = shown.hyperparameters
    common = SupervisedHyperparameters(
        batch_size=values.batch_size,
        learning_rate_multiplier=values.learning_rate_multiplier,
        n_epochs=values.num_epochs,
    )
    if values.beta is None:
        supervised = SupervisedMethod(hyperparameters=common)
        return FineTuningMethod(type="supervised", supervised=supervised), common
    own = DpoHyperparameters(**common.model_dump(), beta=values.beta)
    return FineTuningMethod(type="dpo", dpo=DpoMethod(hyperparameters=own)), common


def _seconds(time: Timestamp) -> int:
    return int(time.timestamp())
