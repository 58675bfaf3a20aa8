"""The device has the weights for a turn only. The device is the CPU too; it gets a copy as a GPU does."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from training.worker.host_weights import HostWeights


class Tied(nn.Module):
    """Two layers that share their weights, and a buffer that no file has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.ones(2), persistent=False)
        self.requires_grad_(False)

    def addresses(self) -> list[int]:
        return [tensor.data_ptr() for tensor in (*self.parameters(), *self.buffers())]

    def numbers(self) -> list[torch.Tensor]:
        return [tensor.clone() for tensor in (*self.parameters(), *self.buffers())]


@pytest.fixture
def model() -> Iterator[Tied]:
    """A model that must be as it was after the test."""
    model = Tied()
    addresses, numbers = model.addresses(), model.numbers()
    yield model
    assert model.addresses() == addresses
    assert all(map(torch.equal, model.numbers(), numbers))


def test_the_device_has_a_copy_for_each_turn(model: Tied) -> None:
    weights = HostWeights(model, torch.device("cpu"))
    numbers, kept = model.numbers(), model.addresses()
    for _ in range(2):
        with weights.on_device():
            assert not set(model.addresses()) & set(kept)
            assert all(map(torch.equal, model.numbers(), numbers))
            assert model.first.weight is model.second.weight


def test_what_a_turn_writes_is_thrown_away(model: Tied) -> None:
    with HostWeights(model, torch.device("cpu")).on_device():
        model.first.weight.zero_()
        model.scale.zero_()


def test_a_turn_that_fails_leaves_nothing_on_the_device(model: Tied) -> None:
    weights = HostWeights(model, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="no memory"), weights.on_device():
        raise RuntimeError("no memory")
