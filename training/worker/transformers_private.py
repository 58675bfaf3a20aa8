"""The names of transformers that it does not promise to keep.

`tests/process/training/worker/test_transformers_private.py` compares each of them with the installed
transformers.
"""

from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

__all__ = ["AttentionInterface", "sdpa_attention_forward"]

OBJECTS = {"transformers.AttentionInterface": ("register",)}
"""The names that `training.worker.attention` calls on the classes of transformers."""
