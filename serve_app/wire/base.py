"""What all requests and answers over HTTP have in common.

Requests are strict: no unknown field, no conversion between types. Everything in a request has an upper
bound, and a list that is wrong has one error and not one for each of its items: the error of a body must not
cost more than the body.
"""

from typing import Annotated, Any, Literal

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from registry.usage import milliseconds

MAX_TEXT_CHARACTERS = 2**24
"""Of one text; the settings bound the whole body, and a model's context what it can take."""
MAX_REF_CHARACTERS = 256
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
Ref = Annotated[str, Field(max_length=MAX_REF_CHARACTERS)]
Stream = Annotated[bool, Field(description="answer in chunks, as they are made")]
Metrics = Annotated[
    dict[str, float],
    Field(
        description="of the last step: loss, kl, clip_ratio, grad_norm and others; "
        "`cut_responses`: how many did not end their turn, `empty_responses`: how many had no tokens"
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="a repeat with the same key and body makes nothing new"),
]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_field(cls, given: Any) -> Any:
        """Of thousands of unknown fields one is named: pydantic would make an error of each."""
        if not isinstance(given, dict) or len(given) <= len(cls.model_fields):
            return given
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = next(name for name in given if name not in known)
        return {name: given[name] for name in (*known, unknown) if name in given}


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Status(Answer):
    status: Literal["ok", "ready"]


class Durations(Answer):
    duration: float = Field(description="seconds")

    @computed_field(description="the same in milliseconds")  # type: ignore[prop-decorator]
    @property
    def duration_ms(self) -> int:
        return milliseconds(self.duration)


class ErrorDetail(Answer):
    type: str = Field(description="the kind of error, as OpenAI's clients know it")
    code: str = Field(description="what a program looks at")
    message: str = Field(description="what a person reads")
    param: str | None = Field(description="path of the field it is about, such as `responses.0.reward`")


class ErrorAnswer(Answer):
    error: ErrorDetail
