"""A base model that is lent to one job after the other."""

import weakref
from pathlib import Path

import pytest
import torch

from tests.support.tiny_jobs import tiny_resident


def test_a_turn_that_fails_leaves_none_of_its_tensors(tiny_weights: Path) -> None:
    """The error is still on its way when the GPU is given back, and its traceback knows all variables."""
    resident = tiny_resident(tiny_weights)
    tensors: list[weakref.ref[torch.Tensor]] = []

    def train() -> None:
        activations = torch.ones(3)
        tensors.append(weakref.ref(activations))
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError) as caught, resident.lend():
        train()
    assert caught.value.__traceback__ is not None
    assert tensors[0]() is None
