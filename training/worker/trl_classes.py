"""TRL's classes, imported without the libraries that TRL needs only for generation."""

from collections.abc import Iterator
from contextlib import contextmanager

from trl import import_utils


@contextmanager
def _without_vllm() -> Iterator[None]:
    """Keep TRL from importing vLLM, which takes seconds and is of no use here: TRL generates nothing.

    TRL asks one function if vLLM is available. In this block that function returns False.
    """
    is_vllm_available = import_utils.is_vllm_available
    import_utils.is_vllm_available = lambda min_version=None: False
    try:
        yield
    finally:
        import_utils.is_vllm_available = is_vllm_available


with _without_vllm():
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

__all__ = ["GRPOConfig", "GRPOTrainer"]
