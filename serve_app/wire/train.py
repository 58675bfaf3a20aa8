"""Requests and answers of `POST /v1/train`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from serve_app.wire.base import Answer, Durations, Metrics, Ref, Request, Stream, Text
from serve_app.wire.generate import Conversation, StopReason
from serve_app.wire.models import Beta, Epsilon, LearningRate, LearningSteps

MAX_GROUPS = 16_384
MAX_RESPONSES = 16_384


class TrainedResponse(Request):
    content: Text = Field(description="possible response of the model")
    reward: float = Field(description="quality of the response; only differences within a group matter")
    stop_reason: StopReason | None = Field(
        None,
        description="`stop_reason` of the generation; the end of the turn is trained only if this is "
        "`end_turn` or null",
    )
    output_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="`output_tokens` of the generation; no effect"
    )

    @property
    def ends_turn(self) -> bool:
        return self.stop_reason in (None, "end_turn")


RewardedResponses = Annotated[
    list[TrainedResponse],
    Field(fail_fast=True, min_length=2, max_length=MAX_RESPONSES, description="responses to the messages"),
]


class TrainingGroup(Request):
    """A prompt and its rewarded responses."""

    messages: Conversation
    responses: RewardedResponses


class Train(Request):
    """A request to train on one group (`messages`, `responses`) or on several (`groups`)."""

    model: Ref = Field(description="id or name of a private model")
    messages: Conversation | None = None
    responses: RewardedResponses | None = None
    groups: (
        Annotated[list[TrainingGroup], Field(fail_fast=True, min_length=1, max_length=MAX_GROUPS)] | None
    ) = Field(None, description="groups that replace messages and responses")
    learning_rate: LearningRate | None = None
    learning_steps: LearningSteps | None = None
    beta: Beta | None = None
    epsilon: Epsilon | None = None
    stream: Stream = False
    background: bool = Field(False, description="answer at once with the job")

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        single = self.messages is not None and self.responses is not None
        if self.groups is None and not single:
            raise ValueError("give messages and responses, or groups")
        if self.groups is not None and (self.messages is not None or self.responses is not None):
            raise ValueError("give messages and responses, or groups, not both")
        if self.stream and self.background:
            raise ValueError("stream and background exclude each other")
        return self

    def all_groups(self) -> list[TrainingGroup]:
        if self.groups is not None:
            return self.groups
        assert self.messages is not None and self.responses is not None
        return [TrainingGroup.model_construct(messages=self.messages, responses=self.responses)]


class TrainingUsage(Durations):
    trained_tokens: int = Field(ge=0, description="number of tokens of all responses, in all steps together")


class Trained(Answer):
    """The result of a training that made a revision."""

    job: str = Field(description="id of the job")
    model: str = Field(description="id of the model")
    revision: int = Field(ge=0, description="the new revision, which is now the current one")
    metrics: Metrics
    usage: TrainingUsage
