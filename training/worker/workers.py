"""The workers of one run, as one of them sees the others.

Every worker has the whole model and its share of the packs. What they share goes through here: sums of
gradients and measures, and what rank 0 has decided.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class Workers:
    """Alone unless a process group was set up before. All workers make the same calls in the same order."""

    def __init__(self) -> None:
        is_group = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if is_group else 0
        self.size = dist.get_world_size() if is_group else 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all workers, in one exchange; the same bits everywhere."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def run_on_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0; it is not called elsewhere. What it raises there is raised by all."""
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        if self.is_first:
            try:
                box[0] = make()
            except Exception as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    def run_on_all(self, make: Callable[[], T]) -> T:
        """`make()` of each worker, once every one of them has made it; else the first error, raised by all.

        For what may fail on one worker alone: those that went on would wait for it in their next exchange.
        """
        mine: list[T] = []
        self.each(lambda: mine.append(make()))
        return mine[0]

    def each(self, make: Callable[[], T]) -> list[T]:
        """As `run_on_all`, but what every worker made, by rank; it is sent to all, so it should be small."""
        if self.size == 1:
            return [make()]
        made: tuple[T | None, Exception | None]
        try:
            made = make(), None
        except Exception as error:
            made = None, error
        all_made: list[Any] = [None] * self.size
        dist.all_gather_object(all_made, made)
        for _, failed in all_made:
            if failed is not None:
                raise failed
        return [result for result, _ in all_made]
