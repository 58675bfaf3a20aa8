"""The arguments of TRL's GRPO trainer for a job, with the defaults of TRL that must not hold.

Its loop makes the steps of every method. The arguments of the loss have an effect in GRPO only.
"""

import hashlib
import math
from pathlib import Path

from training.types import Assignment
from training.worker.resident_model import ResidentModel
from training.worker.state import TrainingState
from training.worker.trl_private import GRPOConfig


def trainer_arguments(
    resident: ResidentModel, assignment: Assignment, state: TrainingState | None, scratch: Path
) -> GRPOConfig:
    """Returns the arguments of TRL's trainer for the steps of a job that remain."""
    hyperparameters = assignment.request.hyperparameters
    return GRPOConfig(
        output_dir=str(scratch),
        use_cpu=not resident.settings.use_gpu,
        bf16=resident.settings.dtype == "bfloat16",
        seed=seed_of(assignment.job_id),
        # Exactly `learning_steps` optimizer steps, each over the rows of one batch of `worker.batches`.
        max_steps=hyperparameters.learning_steps - (state.step if state is not None else 0),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        num_generations=2,
        loss_type="dapo",
        beta=hyperparameters.beta,
        epsilon=hyperparameters.epsilon,
        # True would multiply the KL term by the ratio, which is not the KL of the contract.
        use_bias_correction_kl=False,
        learning_rate=hyperparameters.learning_rate,
        # `worker.learning_rate` has the schedule.
        lr_scheduler_type="constant",
        weight_decay=0.0,
        # With an infinite maximum the norm is measured, and nothing is clipped.
        max_grad_norm=math.inf,
        # `worker.memory_fit` turns checkpointing on if it is needed.
        gradient_checkpointing=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def seed_of(job_id: str) -> int:
    """The seed of a job. It is the same for each attempt, so that each attempt makes the same adapter."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4])
