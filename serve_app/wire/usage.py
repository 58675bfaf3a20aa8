"""What goes over the wire for `/v1/usage`."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.usage import Usage

By = Literal["day", "model"]


class UsageTotals(BaseModel):
    """Tokens of prompts and completions, tokens trained on, and seconds in the engine and in training."""

    requests: int = Field(ge=0, description="generations that were begun, one for each prompt")
    input_tokens: int = Field(ge=0, description="of prompts")
    output_tokens: int = Field(ge=0, description="of completions, also of those nobody waited for")
    trained_tokens: int = Field(ge=0, description="of prompts and responses, once for each training")
    generation_seconds: float = Field(ge=0, description="from a generation's turn in the engine to its end")
    training_seconds: float = Field(ge=0, description="of trainings that made a revision")

    @staticmethod
    def rounded(usage: Usage) -> dict[str, float]:
        """The fields of a row; seconds to the millisecond."""
        return {name: round(value, 3) for name, value in usage.model_dump().items()}


class DayUsage(UsageTotals):
    day: date = Field(description="in UTC")


class ModelUsage(UsageTotals):
    model: str = Field(description="id of the model")


class UsageReport(BaseModel):
    """Days and models without any usage are left out."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    first: date = Field(alias="from", description="the first day, in UTC")
    last: date = Field(alias="to", description="the last day, in UTC; inclusive")
    by: By = Field(description="what a row of `data` is of")
    data: list[DayUsage] | list[ModelUsage]
    total: UsageTotals = Field(description="of all rows")
