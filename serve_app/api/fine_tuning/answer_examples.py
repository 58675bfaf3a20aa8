"""Examples of the answers of OpenAI's fine-tuning API, for /docs."""

from typing import Any

from serve_app.api.answer_examples import FILE_OBJECT

_HYPERPARAMETERS = {"batch_size": 8, "learning_rate_multiplier": 1.0, "n_epochs": 3}
FINE_TUNING_JOB: dict[str, Any] = {
    "id": "job-fe5de5de8f1e7a0ac699a38e",
    "object": "fine_tuning.job",
    "created_at": 1738499400,
    "finished_at": None,
    "estimated_finish": None,
    "status": "queued",
    "model": "smollm2-135m",
    "fine_tuned_model": None,
    "training_file": FILE_OBJECT["id"],
    "validation_file": None,
    "result_files": [],
    "trained_tokens": None,
    "error": None,
    "method": {"type": "supervised", "supervised": {"hyperparameters": _HYPERPARAMETERS}, "dpo": None},
    "hyperparameters": _HYPERPARAMETERS,
    "seed": 42,
    "metadata": {"team": "support"},
    "integrations": [],
    "organization_id": "tiger",
}
FINE_TUNING_EVENT: dict[str, Any] = {
    "id": "ftevent-fe5de5de8f1e7a0ac699a38e-4",
    "object": "fine_tuning.job.event",
    "created_at": 1738499460,
    "level": "info",
    "message": "Step 1/3: training loss=2.125",
    "type": "metrics",
    "data": {"step": 1, "total_steps": 3, "train_loss": 2.125, "train_mean_token_accuracy": 0.5},
}
FINE_TUNING_CHECKPOINT: dict[str, Any] = {
    "id": "ftckpt-fe5de5de8f1e7a0ac699a38e-1",
    "object": "fine_tuning.job.checkpoint",
    "created_at": 1738499470,
    "fine_tuning_job_id": FINE_TUNING_JOB["id"],
    "fine_tuned_model_checkpoint": "smollm2-135m-support-3f2a9c1e@1",
    "step_number": 1,
    "metrics": {
        "step": 1,
        "train_loss": 2.125,
        "train_mean_token_accuracy": 0.5,
        "full_valid_loss": None,
        "full_valid_mean_token_accuracy": None,
    },
}
