"""The part of a job of OpenAI's fine-tuning API that only the answers of that API show."""

import hashlib
from typing import Literal

from pydantic import Field

from registry.record_base import Record


def result_file_id(job_id: str) -> str:
    """The id of the file with the numbers of a job's steps. A job that ends twice, after a crash, has one."""
    return f"file-{hashlib.sha256(f'results of {job_id}'.encode()).hexdigest()[:32]}"


class FineTuningHyperparameters(Record):
    """The values that hold for the job, which the request gave or the service chose."""

    batch_size: int
    learning_rate_multiplier: float
    num_epochs: int
    beta: float | None = Field(None, description="None: the method has none")


class FineTuning(Record):
    method: Literal["supervised", "dpo"]
    model: str = Field(description="id of the model that the request names")
    makes_model: bool = Field(
        description="true: the model is a copy made for the job, which goes away if it makes no revision"
    )
    training_file: str = Field(description="id of the file that is learned")
    validation_file: str | None = Field(None, description="id of the file that is measured")
    suffix: str | None = None
    metadata: dict[str, str] | None = None
    seed: int
    hyperparameters: FineTuningHyperparameters
