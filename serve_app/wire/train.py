"""Requests and answers of `POST /v1/train`."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serve_app.wire.base import Answer, Durations, Metrics, Ref, Request, Stream, Text
from serve_app.wire.generate import StopReason
from serve_app.wire.models import Beta, Epsilon, LearningRate, LearningSteps
from serve_app.wire.refused_fields import missing_at, refused_at
from serve_app.wire.training_calls import CallChecks, Path
from serve_app.wire.training_turns import ExampleConversation, Prompt, ResponseTurns, Side, Tools, side_turns

MAX_GROUPS = 16_384
MAX_RESPONSES = 16_384
MAX_EXAMPLES = 16_384
MAX_EPOCHS = 1_000
MAX_WEIGHT = 1_000

OF_METHOD = {
    "grpo": ("messages", "responses", "tools", "groups", "beta", "epsilon"),
    "supervised": ("examples", "epochs", "batch_size", "warmup_ratio", "schedule"),
    "dpo": ("pairs", "epochs", "batch_size", "warmup_ratio", "schedule", "beta"),
}
"""The fields that only some methods have, by method."""


class TrainedResponse(Request):
    """A response: a text in `content`, or a trajectory in `messages`."""

    content: Text | None = Field(None, description="possible response of the model")
    messages: ResponseTurns | None = Field(
        None, description="trajectory that replaces content: turns of the model and results of its tools"
    )
    reward: float = Field(description="quality of the response; only differences within a group matter")
    stop_reason: StopReason | None = Field(
        None,
        description="`stop_reason` of the generation, or of the last one of a trajectory; "
        "the end of the turn is trained only if this is `end_turn` or null",
    )
    output_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="`output_tokens` of the generation; no effect"
    )

    @model_validator(mode="after")
    def _text_or_trajectory(self) -> Self:
        if self.content is None and self.messages is None:
            raise refused_at(("content",), "a response needs content or messages")
        if self.content is not None and self.messages is not None:
            raise refused_at(("messages",), "give content or messages, not both")
        return self

    @property
    def ends_turn(self) -> bool:
        return self.stop_reason in (None, "end_turn")


RewardedResponses = Annotated[
    list[TrainedResponse],
    Field(fail_fast=True, min_length=2, max_length=MAX_RESPONSES, description="responses to the messages"),
]


class TrainingGroup(Request):
    """A prompt and its rewarded responses."""

    messages: Prompt
    responses: RewardedResponses
    tools: Tools | None = None


class TrainingExample(Request):
    """A conversation whose turns of the assistant are learned."""

    messages: ExampleConversation
    tools: Tools | None = None
    weight: Annotated[float, Field(ge=0, le=MAX_WEIGHT)] | None = Field(
        None, description="factor of the loss of this example; default: 1"
    )


class TrainingPair(Request):
    """A prompt and two responses to it, of which the first is preferred."""

    messages: Prompt
    preferred: Side
    rejected: Side
    tools: Tools | None = None


class Train(Request):
    """A request to train: on groups of rewarded responses, on examples, or on pairs."""

    model: Ref = Field(description="id or name of a private model")
    method: Literal["grpo", "supervised", "dpo"] = Field(
        "grpo",
        description="`grpo`: learn from rewards (`messages` and `responses`, or `groups`); `supervised`: "
        "imitate `examples`; `dpo`: prefer one response to another (`pairs`)",
    )
    messages: Prompt | None = None
    responses: RewardedResponses | None = None
    tools: Tools | None = None
    groups: (
        Annotated[list[TrainingGroup], Field(fail_fast=True, min_length=1, max_length=MAX_GROUPS)] | None
    ) = Field(None, description="groups that replace messages, responses and tools")
    examples: (
        Annotated[list[TrainingExample], Field(fail_fast=True, min_length=1, max_length=MAX_EXAMPLES)] | None
    ) = Field(None, description="conversations to imitate, for `supervised`")
    pairs: (
        Annotated[list[TrainingPair], Field(fail_fast=True, min_length=1, max_length=MAX_EXAMPLES)] | None
    ) = Field(None, description="pairs of responses, for `dpo`")
    learning_rate: Annotated[LearningRate, Field(description="highest learning rate of AdamW")] | None = None
    learning_steps: LearningSteps | None = None
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)] | None = Field(
        None, description="number of passes over all examples or pairs; replaces learning_steps"
    )
    batch_size: Annotated[int, Field(ge=1, le=MAX_EXAMPLES)] | None = Field(
        None, description="number of examples or pairs of a step"
    )
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="part of the steps in which the learning rate grows; default: 0"
    )
    schedule: Literal["constant", "linear", "cosine"] | None = Field(
        None, description="course of the learning rate after the warm-up; default: constant"
    )
    beta: (
        Annotated[
            Beta,
            Field(
                description="grpo: weight of the KL divergence from the base model; dpo: how much the model "
                "is held at the revision with which the training starts; the operator sets an upper limit"
            ),
        ]
        | None
    ) = None
    epsilon: Epsilon | None = None
    stream: Stream = False
    background: bool = Field(False, description="answer at once with the job")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        self._check_fields_of_method()
        if self.method == "grpo":
            self._check_one_or_many()
        else:
            self._check_needed("examples" if self.method == "supervised" else "pairs")
        if self.learning_steps is not None and self.epochs is not None:
            raise refused_at(("epochs",), "give learning_steps or epochs, not both")
        if self.method == "dpo" and self.beta == 0:
            raise refused_at(("beta",), "with the method dpo beta must be above 0, else there is no gradient")
        if self.stream and self.background:
            raise ValueError("stream and background exclude each other")
        self._check_calls()
        return self

    def _check_fields_of_method(self) -> None:
        own = OF_METHOD[self.method]
        for field in dict.fromkeys(name for names in OF_METHOD.values() for name in names):
            if field not in own and getattr(self, field) is not None:
                methods = " and ".join(method for method, names in OF_METHOD.items() if field in names)
                raise refused_at((field,), f"only the method {methods} has this field, not {self.method}")

    def _check_needed(self, field: str) -> None:
        if getattr(self, field) is None:
            is_null = field in self.model_fields_set
            message = f"the method {self.method} needs {field}"
            raise refused_at((field,), message) if is_null else missing_at((field,))

    def _check_one_or_many(self) -> None:
        single = self.messages is not None and self.responses is not None
        if self.groups is None and not single:
            raise ValueError("give messages and responses, or groups")
        if self.groups is not None and (self.messages is not None or self.responses is not None):
            raise ValueError("give messages and responses, or groups, not both")
        if self.groups is not None and self.tools is not None:
            raise refused_at(("tools",), "give the tools of each of the groups in the group")

    def _check_calls(self) -> None:
        checks = CallChecks()
        for path, group in self._groups_at():
            ids = checks.check((*path, "messages"), group.messages)
            for number, response in enumerate(group.responses):
                at = (*path, "responses", number, "messages")
                checks.check(at, response.messages or (), ids)
        for number, example in enumerate(self.examples or ()):
            checks.check(("examples", number, "messages"), example.messages)
        for number, pair in enumerate(self.pairs or ()):
            ids = checks.check(("pairs", number, "messages"), pair.messages)
            checks.check(("pairs", number, "preferred"), side_turns(pair.preferred), ids)
            checks.check(("pairs", number, "rejected"), side_turns(pair.rejected), ids)

    def _groups_at(self) -> Iterator[tuple[Path, TrainingGroup]]:
        for number, group in enumerate(self.all_groups()):
            yield (() if self.groups is None else ("groups", number)), group

    def all_groups(self) -> list[TrainingGroup]:
        """Returns the groups, of which only the method `grpo` has any."""
        if self.groups is not None:
            return self.groups
        if self.messages is None or self.responses is None:
            return []
        return [
            TrainingGroup.model_construct(messages=self.messages, responses=self.responses, tools=self.tools)
        ]


class TrainingUsage(Durations):
    trained_tokens: int = Field(ge=0, description="number of learned tokens, in all steps together")


class Trained(Answer):
    """The result of a training that made a revision."""

    job: str = Field(description="id of the job")
    model: str = Field(description="id of the model")
    revision: int = Field(ge=0, description="the new revision, which is now the current one")
    metrics: Metrics
    usage: TrainingUsage
