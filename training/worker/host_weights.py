"""The frozen weights of a base model, which wait in host memory while no job has its turn.

The device gets a copy for a turn, and the copy is thrown away after it. It is never written back, because
frozen weights do not change. A GPU reads page-locked memory at the speed of its bus.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn


class HostWeights:
    """The weights of `model`, which are on the CPU now, and a device that needs them from time to time.

    A tensor that several layers share stays shared.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self._tensors: list[Tensor] = list(chain(model.parameters(), model.buffers()))
        if device.type == "cuda":
            for tensor in self._tensors:
                tensor.data = tensor.data.pin_memory()
        self._kept = [tensor.data for tensor in self._tensors]

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """The weights are on the device during the block. After it, the device has nothing of them."""
        try:
            for tensor, kept in zip(self._tensors, self._kept, strict=True):
                tensor.data = kept.to(self._device, non_blocking=True, copy=True)
            yield
        finally:
            for tensor, kept in zip(self._tensors, self._kept, strict=True):
                tensor.data = kept
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
