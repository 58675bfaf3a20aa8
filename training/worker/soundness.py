"""Numbers that left all bounds end a job before they become a revision.

A rate that is far too high makes infinite losses, weights or outputs. Looking at the loss and the weights is
not enough: finite weights may still make outputs that are not, and those of one adapter can reach the answers
of others in an engine that serves many.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from registry.errors import TrainingDiverged
from training.worker.packs import Row

MAX_LOGIT = 1e4
"""Logits of a healthy model stay below a hundred."""
MAX_HIDDEN = 1e6
"""Hidden states of a healthy model stay below a hundred thousand, the largest known ones included."""
NUM_FIXED, NUM_FIXED_TOKENS = 2, 16
"""Sequences that are the same for every job. Attention is causal: each is a prompt of every length."""
NUM_OWN, MAX_OWN_TOKENS = 2, 128
"""The job's own prompts with their responses, and of each at most the last tokens."""


def check_finite(numbers: Mapping[str, float], step: int) -> None:
    """Raises: TrainingDiverged, with the name of the first that is not finite."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise _diverged(step, f"the {name} is not finite")


def check_soundness(model: Any, rows: Sequence[Row], step: int) -> None:
    """Look at the trained weights, and at what the model makes of a few prompts, as it was trained.

    All workers of a sharded model call this together.

    Raises: TrainingDiverged.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        raise _diverged(step, "a weight of the adapter is not finite")
    model.eval()
    ids = _prompts(rows, model.config.vocab_size).to(weights[0].device)
    with torch.no_grad():
        output = model(input_ids=ids, use_cache=False, output_hidden_states=True)
    for hidden in output.hidden_states:
        if not _is_within(hidden, MAX_HIDDEN):
            raise _diverged(step, "what a layer puts out is beyond all bounds")
    if not _is_within(output.logits, MAX_LOGIT):
        raise _diverged(step, "the logits are beyond all bounds")


@contextmanager
def diverging(step: Callable[[], int]) -> Iterator[None]:
    """A number too large for the type that it is computed in is a training that diverged.

    Raises: TrainingDiverged.
    """
    try:
        yield
    except OverflowError as error:
        raise _diverged(step(), "a number is too large to compute with") from error
    except RuntimeError as error:
        if "without overflow" not in str(error):  # torch's words when a number fits no tensor
            raise
        raise _diverged(step(), "a number is too large to compute with") from error


def _prompts(rows: Sequence[Row], vocabulary: int) -> Tensor:
    """(B, T) token ids; shorter ones go on with tokens that they do not see."""
    prompts = [
        [(1 + 7919 * (number * NUM_FIXED_TOKENS + place)) % vocabulary for place in range(NUM_FIXED_TOKENS)]
        for number in range(NUM_FIXED)
    ]
    for row in rows[:NUM_OWN]:
        own = [*row.exchange.prompt_ids, *row.exchange.completion_ids]
        prompts.append(own[-MAX_OWN_TOKENS:])
    length = max(map(len, prompts))
    return torch.tensor([prompt + prompt[:1] * (length - len(prompt)) for prompt in prompts])


def _is_within(numbers: Tensor, bound: float) -> bool:
    """A NaN is not."""
    return bool((numbers.abs() < bound).all())


def _diverged(step: int, quantity: str) -> TrainingDiverged:
    return TrainingDiverged(f"the training diverged at step {step}: {quantity}; lower learning_rate")
