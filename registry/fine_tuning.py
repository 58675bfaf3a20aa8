"""The part of a job of OpenAI's fine-tuning API that only the answers of that API show."""

from pydantic import Field

from registry.record_base import Record


class FineTuningHyperparameters(Record):
    """The values that the request gave. None: the service chose the value."""

    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    num_epochs: int | None = None
    beta: float | None = None


class FineTuning(Record):
    training_file: str = Field(description="id of the file that is learned")
    validation_file: str | None = Field(None, description="id of the file that is measured")
    suffix: str | None = None
    metadata: dict[str, str] | None = None
    seed: int
    hyperparameters: FineTuningHyperparameters
