"""Refuses texts that are too long for a model, without counting their tokens."""

from registry.errors import ContextLengthExceeded

CHARACTERS_PER_TOKEN = 32
"""The upper bound of the average number of characters per token in an ordinary text.

A single token can have more.
"""


def check_characters(number: int, max_context_tokens: int, param: str) -> None:
    """Raises: ContextLengthExceeded, for a text that is certainly too long."""
    if number > max_context_tokens * CHARACTERS_PER_TOKEN:
        raise ContextLengthExceeded(
            f"there are {number} characters; the model takes {max_context_tokens} tokens", param
        )
