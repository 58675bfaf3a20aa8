"""Answers of `GET /v1/me` and of `/v1/operator`."""

from datetime import date
from typing import Literal

from pydantic import ConfigDict, Field

from serve_app.wire.base import Answer
from serve_app.wire.keys import Key
from serve_app.wire.usage import UsageTotals

State = Literal["ready", "asleep", "unavailable"]


class Me(Answer):
    """The user of a request."""

    user: str = Field(description="name of the user")
    current_key: Key = Field(description="key of this request; `last_used` is null here")
    is_operator: bool = Field(description="true if the user may use `/v1/operator`")
    dashboard_url: str | None = Field(description="address of Ray's dashboard, for operators")


class ReplicaLoad(Answer):
    """A replica of a base model."""

    generations: int | None = Field(
        ge=0, description="number of generations that wait or run; null: the replica reports a fault"
    )


class BaseModelState(Answer):
    """The state of a base model."""

    id: str
    name: str
    status: State = Field(description="`asleep`: it has no replica because nobody uses it")
    max_replicas: int = Field(ge=0, description="number of replicas, or the highest if it follows the load")
    replicas: list[ReplicaLoad] = Field(description="replicas that answer; empty if none answers in time")


class UserUsage(UsageTotals):
    """The usage of one user."""

    user: str = Field(description="name of the user")
    unfinished_trainings: int = Field(ge=0, description="number of trainings that wait or run now")


class UsersReport(Answer):
    """A page of users who have a key, in the order of their names."""

    model_config = ConfigDict(frozen=True, validate_by_name=True, validate_by_alias=True)

    first: date = Field(alias="from", description="the first day of the usage, in UTC")
    last: date = Field(alias="to", description="the last day of the usage, in UTC; inclusive")
    data: list[UserUsage]
    has_more: bool = Field(description="true if there are users after this page")
