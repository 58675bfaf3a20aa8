"""Makes the job of a request to train: the records of what it teaches, and the values that hold.

Values that a request leaves out are the model's defaults for GRPO. Those of the other methods are here. They
are what the recipes of Hugging Face's alignment handbook for LoRA have (supervised 2e-4, DPO 5e-6), and TRL's
beta of DPO. The rate is constant unless a request says otherwise, because a training continues
with the optimizer of the one before it: many short trainings then learn as a long one would.
"""

import math
from dataclasses import dataclass
from typing import TypeVar

from registry.records import (
    Example,
    Group,
    Hyperparameters,
    JobRequest,
    Method,
    ModelRecord,
    Pair,
    RewardedResponse,
    Schedule,
)
from serve_app.wire.train import Train, TrainedResponse, TrainingGroup
from serve_app.wire.training_turns import records_of, side_turns, tool_records

T = TypeVar("T")
BATCH_SIZE = 8
MAX_STEPS_PER_EPOCH = 256
"""The most steps of an epoch if a request has no `batch_size`: the batches of many examples are larger."""


@dataclass(frozen=True)
class MethodDefaults:
    """The values of a method that learns in batches, for requests that give none."""

    learning_rate: float
    epochs: int
    beta: float


DEFAULTS = {
    Method.SUPERVISED: MethodDefaults(learning_rate=2e-4, epochs=3, beta=0.0),
    Method.DPO: MethodDefaults(learning_rate=5e-6, epochs=1, beta=0.1),
}


def build_job(request: Train, model: ModelRecord) -> JobRequest:
    method = Method(request.method)
    return JobRequest(
        method=method,
        groups=tuple(_group(group) for group in request.all_groups()),
        examples=tuple(
            Example(
                messages=records_of(example.messages),
                tools=tool_records(example.tools),
                weight=1.0 if example.weight is None else example.weight,
            )
            for example in request.examples or ()
        ),
        pairs=tuple(
            Pair(
                messages=records_of(pair.messages),
                preferred=records_of(side_turns(pair.preferred)),
                rejected=records_of(side_turns(pair.rejected)),
                tools=tool_records(pair.tools),
            )
            for pair in request.pairs or ()
        ),
        hyperparameters=_of_grpo(request, model) if method is Method.GRPO else _in_batches(request, method),
    )


def _group(group: TrainingGroup) -> Group:
    return Group(
        messages=records_of(group.messages),
        responses=tuple(_response(response) for response in group.responses),
        tools=tool_records(group.tools),
    )


def _response(response: TrainedResponse) -> RewardedResponse:
    return RewardedResponse(
        content=response.content or "",
        reward=response.reward,
        ends_turn=response.ends_turn,
        messages=records_of(response.messages or ()),
    )


def _of_grpo(request: Train, model: ModelRecord) -> Hyperparameters:
    defaults = model.defaults
    return Hyperparameters(
        learning_rate=_first(request.learning_rate, defaults.learning_rate),
        learning_steps=_first(request.learning_steps, defaults.learning_steps),
        beta=_first(request.beta, defaults.beta),
        epsilon=_first(request.epsilon, defaults.epsilon),
    )


def _in_batches(request: Train, method: Method) -> Hyperparameters:
    defaults = DEFAULTS[method]
    number = len(request.examples or request.pairs or ())
    default_size = max(BATCH_SIZE, math.ceil(number / MAX_STEPS_PER_EPOCH))
    batch_size = min(number, _first(request.batch_size, default_size))
    epochs = _first(request.epochs, defaults.epochs)
    return Hyperparameters(
        learning_rate=_first(request.learning_rate, defaults.learning_rate),
        learning_steps=_first(request.learning_steps, epochs * math.ceil(number / batch_size)),
        beta=_first(request.beta, defaults.beta),
        epsilon=0.0,
        batch_size=batch_size,
        warmup_ratio=_first(request.warmup_ratio, 0.0),
        schedule=Schedule(_first(request.schedule, Schedule.CONSTANT)),
    )


def _first(given: T | None, default: T) -> T:
    return default if given is None else given
