"""Ends a job whose numbers exceed their bounds, before they become a revision.

A learning rate that is far too high makes infinite losses, weights or outputs. Checks of the loss and the
weights are not enough: finite weights may still make infinite outputs. In an engine with many adapters, such
outputs of one adapter can reach the answers of others.
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
"""The bound of the size of a logit. The logits of a healthy model stay below a hundred."""
MAX_LOSS = 100.0
"""The bound of the loss of supervised training and DPO. A guess among 200,000 tokens has a loss of 12."""
MAX_HIDDEN = 1e6
"""The bound of the size of a hidden state's numbers. The largest known ones are below a hundred thousand."""
NUM_FIXED, NUM_FIXED_TOKENS = 2, 16
"""The number of sequences that are the same for every job, and the tokens of each. Since attention is causal,
each tests prompts of every length up to that."""
NUM_OWN, MAX_OWN_TOKENS = 2, 128
"""The number of the job's own rows that are tested, and the most tokens of each: its last ones."""


def check_finite(numbers: Mapping[str, float], step: int) -> None:
    """Check that all numbers are finite. Raises: TrainingDiverged, with the name of the first that is not."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise _diverged(step, f"the {name} is not finite ({number})")


def check_loss(loss: float, scale: float, step: int) -> None:
    """Check that a loss is far from that of a ruined model. Raises: TrainingDiverged.

    Args:
        scale: the factor by which the request makes all losses larger, such as the weight of an example.
    """
    bound = MAX_LOSS * max(scale, 1.0)
    if loss > bound:
        raise _diverged(step, f"the loss exceeds its bound ({loss:.4g} > {bound:.4g})")


def check_soundness(model: Any, rows: Sequence[Row], step: int) -> None:
    """Check the trained weights, and the outputs of the trained model for a few prompts.

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
            raise _diverged(step, "the hidden states exceed their bound")
    if not _is_within(output.logits, MAX_LOGIT):
        raise _diverged(step, "the logits exceed their bound")


@contextmanager
def diverging(step: Callable[[], int]) -> Iterator[None]:
    """Turn the errors of the block that mean a number too large for its type into TrainingDiverged.

    Raises: TrainingDiverged.
    """
    try:
        yield
    except OverflowError as error:
        raise _diverged(step(), "a number is too large to compute with") from error
    except RuntimeError as error:
        if "without overflow" not in str(error):  # torch's message if a number is too large for a tensor
            raise
        raise _diverged(step(), "a number is too large to compute with") from error


def _prompts(rows: Sequence[Row], vocabulary: int) -> Tensor:
    """(B, T) token ids. Shorter prompts are padded on the right with tokens that they do not see."""
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
    """Return True if all numbers are smaller than the bound. A NaN is not."""
    return bool((numbers.abs() < bound).all())


def _diverged(step: int, quantity: str) -> TrainingDiverged:
    return TrainingDiverged(f"the training diverged at step {step}: {quantity}; lower learning_rate")
