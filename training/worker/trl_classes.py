"""TRL's classes, imported without what it would import for generation."""

from collections.abc import Iterator
from contextlib import contextmanager

from trl import import_utils


@contextmanager
def _without_vllm() -> Iterator[None]:
    """Keep TRL from importing vLLM, where that is installed: seconds and hundreds of modules for
    generation that never happens here. TRL asks one function whether to; it says no in this block."""
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
