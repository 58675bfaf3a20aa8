"""Removes the names of private models from the labels of a replica's metrics.

The id of a private model reveals what its user does, and each new label would be one more series for ever.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ray import serve

from serve_app.ray_private import MULTIPLEX_WRAPPER, ModelMultiplexWrapper

T = TypeVar("T")


class Unset:
    """A replacement for a Gauge that has the id of a model as a label."""

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Does nothing. Another metric has the number of models."""


def multiplexed(load: Callable[[str], Awaitable[T]], max_models: int) -> Callable[[str], Awaitable[T]]:
    """Returns `serve.multiplexed` of `load`, without its metric `serve_registered_multiplexed_model_id`.

    It must be called in a replica.
    """
    wrapper = ModelMultiplexWrapper(load, None, max_models)
    wrapper.registered_model_gauge = Unset()
    setattr(load, MULTIPLEX_WRAPPER, wrapper)  # Serve uses this attribute if it exists
    loader: Callable[[str], Awaitable[T]] = serve.multiplexed(max_num_models_per_replica=max_models)(load)
    return loader
