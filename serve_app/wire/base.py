"""Base types of all requests and answers over HTTP.

Requests are strict: they refuse unknown fields and convert no types. Everything in a request has an upper
bound. A wrong list has one error, and not one for each of its items, because the error for a body must not
cost more than the body.
"""

from typing import Annotated, Any, Literal

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from registry.usage import milliseconds

MAX_TEXT_CHARACTERS = 2**24
"""The upper bound of one text, in characters. The whole body and the model's context have bounds too."""
MAX_REF_CHARACTERS = 256
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
Ref = Annotated[str, Field(max_length=MAX_REF_CHARACTERS)]
Stream = Annotated[bool, Field(description="send the answer in chunks while it is generated")]
Metrics = Annotated[
    dict[str, float],
    Field(
        description="values of the last step, those that its method has, such as loss, grad_norm, kl, "
        "token_accuracy and reward_margin; `cut_responses`: number of responses that did not end their turn; "
        "`empty_responses`: number without tokens"
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="a repeat with the same key and body has no new effect"),
]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_field(cls, given: Any) -> Any:
        """Leaves one of many unknown fields, because pydantic would make an error for each of them."""
        if not isinstance(given, dict) or len(given) <= len(cls.model_fields):
            return given
        known = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = next(name for name in given if name not in known)
        return {name: given[name] for name in (*known, unknown) if name in given}


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Status(Answer):
    status: Literal["ok"]


class Readiness(Answer):
    status: Literal["ready"]
    asleep: list[str] | None = Field(
        None, description="base models without a replica, because nobody uses them; a request starts one"
    )


class Durations(Answer):
    duration: float = Field(description="duration in seconds")

    @computed_field(description="duration in milliseconds")  # type: ignore[prop-decorator]
    @property
    def duration_ms(self) -> int:
        return milliseconds(self.duration)


class ErrorDetail(Answer):
    type: str = Field(description="kind of the error, named as in OpenAI's API")
    code: str = Field(description="name of the error for programs")
    message: str = Field(description="explanation of the error for people")
    param: str | None = Field(description="path of the field with the error, such as `responses.0.reward`")


class ErrorAnswer(Answer):
    error: ErrorDetail
