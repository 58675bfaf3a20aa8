"""The names of TRL that are private, or that TRL does not promise to keep.

`tests/process/training/worker/test_trl_private.py` compares each of them with the installed TRL. TRL's
classes are imported here without the libraries that TRL needs only for generation.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from trl import import_utils

OBJECTS = {
    "trl.import_utils": ("is_vllm_available",),
    "trl.trainer.grpo_trainer.GRPOTrainer": (
        "__init__",
        "_compute_loss",
        "_get_per_token_logps_and_entropies",
        "_metrics",
        "_send_telemetry",
        "compute_loss",
        "compute_loss_context_manager",
        "create_optimizer",
        "create_scheduler",
        "get_train_dataloader",
        "log",
        "remove_callback",
        "training_step",
    ),
}
"""The names that `training.worker.pack_trainer` overrides or reads on TRL's objects."""
LOSS_INPUTS = (
    "advantages",
    "completion_ids",
    "completion_mask",
    "num_items_in_batch",
    "old_per_token_logps",
    "prompt_ids",
    "prompt_mask",
    "ref_per_token_logps",
)
"""The inputs that TRL's loss reads."""


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
