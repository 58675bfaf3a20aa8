"""Labels of a replica's metrics say base model and kind; what would name a private model is left out.

Its id tells what its user does, and each new one would be a series of its own for ever.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ray import serve
from ray.serve.multiplex import _ModelMultiplexWrapper

T = TypeVar("T")


class Unset:
    """In the place of a Gauge that has the id of a model as a label."""

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        """How many models there are is a metric of its own."""


def multiplexed(load: Callable[[str], Awaitable[T]], max_models: int) -> Callable[[str], Awaitable[T]]:
    """`serve.multiplexed` without `serve_registered_multiplexed_model_id`; to be called in a replica."""
    wrapper = _ModelMultiplexWrapper(load, None, max_models)
    wrapper.registered_model_gauge = Unset()
    setattr(load, "__serve_multiplex_wrapper", wrapper)  # where Serve looks before it makes one
    loader: Callable[[str], Awaitable[T]] = serve.multiplexed(max_num_models_per_replica=max_models)(load)
    return loader


def leave_out_adapters(engine: Any) -> None:
    """vLLM's `lora_requests_info` names all adapters that run and wait; `engine` is its AsyncLLM."""
    if engine.logger_manager is not None:
        for logger in engine.logger_manager.stat_loggers:
            if hasattr(logger, "gauge_lora_info"):
                logger.gauge_lora_info = None
