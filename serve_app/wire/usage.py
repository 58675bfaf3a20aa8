"""Answers of `GET /v1/usage`."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.records import Timestamp
from registry.usage import Usage

By = Literal["day", "model"]


class UsageTotals(BaseModel):
    """Tokens of prompts and completions, tokens trained on, and seconds in the engine and in training."""

    requests: int = Field(ge=0, description="number of generations that began; each prompt counts as one")
    input_tokens: int = Field(ge=0, description="number of tokens of prompts")
    output_tokens: int = Field(ge=0, description="number of generated tokens, also if the client went away")
    trained_tokens: int = Field(ge=0, description="number of response tokens times the steps of the training")
    generation_seconds: float = Field(ge=0, description="seconds of generations in the engine")
    training_seconds: float = Field(ge=0, description="seconds of trainings that made a revision")

    @staticmethod
    def rounded(usage: Usage) -> dict[str, float]:
        """Returns the fields of a row. Seconds are rounded to milliseconds."""
        return {name: round(value, 3) for name, value in usage.model_dump().items()}


class DayUsage(UsageTotals):
    day: date = Field(description="day in UTC")


class ModelUsage(UsageTotals):
    model: str = Field(description="id of the model")


class UsedBudget(BaseModel):
    """A budget of tokens: of prompts, of generated tokens, and of tokens trained on."""

    period: Literal["day", "month"] = Field(description="period of the budget, in UTC")
    max_tokens: int = Field(ge=1, description="number of tokens that may be used in the period")
    used_tokens: int = Field(ge=0, description="number of tokens used in the current period")
    resets_at: Timestamp = Field(description="end of the current period")


class UsageReport(BaseModel):
    """The usage of a user. Days and models without usage are left out."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    first: date = Field(alias="from", description="the first day, in UTC")
    last: date = Field(alias="to", description="the last day, in UTC; inclusive")
    by: By = Field(description="each row of `data` is for one day or for one model")
    data: list[DayUsage] | list[ModelUsage]
    total: UsageTotals = Field(description="sums of all rows")
    budgets: list[UsedBudget] = Field(description="token budgets of this day and of this month, if any")
