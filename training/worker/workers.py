"""The exchange between the workers of one run.

Every worker has the model, or a part of a sharded one, and its share of the packs. Workers exchange sums of
gradients and of measures, and the decisions of rank 0.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class Workers:
    """The workers of a run: one, unless a process group was set up before.

    All workers make the same calls in the same order.
    """

    def __init__(self) -> None:
        is_group = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if is_group else 0
        self.size = dist.get_world_size() if is_group else 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all workers, in one exchange. All get the same bits."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def run_on_first(self, make: Callable[[], T]) -> T:
        """Call `make` on rank 0 alone, and return its result on all. All raise the error that it raises."""
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
        """Call `make` on each worker and return its result there; if one fails, all raise the first error.

        Use it for work that may fail on one worker alone: the others wait for it at their next exchange.
        """
        mine: list[T] = []
        self.each(lambda: mine.append(make()))
        return mine[0]

    def each(self, make: Callable[[], T]) -> list[T]:
        """As `run_on_all`, but return the results of all workers, by rank. Results should be small."""
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
