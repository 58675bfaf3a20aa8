"""Refuses texts that are too long for a model, without counting their tokens."""

from registry.errors import ContextLengthExceeded

CHARACTERS_PER_TOKEN = 32
"""The upper bound of the average number of characters per token in an ordinary text.

A single token can have more.
"""


def check_characters(number: int, max_context_tokens: int, param: str) -> None:
    """Raises: ContextLengthExceeded, for a text with more characters than the model's tokens can have."""
    most = max_context_tokens * CHARACTERS_PER_TOKEN
    if number > most:
        raise ContextLengthExceeded(
            f"{number} characters are too many: at most {most} are accepted for the model's "
            f"{max_context_tokens} tokens",
            param,
        )
