"""How long a text may be before its tokens are worth counting."""

from registry.errors import ContextLengthExceeded

CHARACTERS_PER_TOKEN = 32
"""On average in a text that anyone would write there are fewer; a single token can have more."""


def check_characters(number: int, max_context_tokens: int, param: str) -> None:
    """Raises: ContextLengthExceeded, for what is so long that its tokens need no counting."""
    if number > max_context_tokens * CHARACTERS_PER_TOKEN:
        raise ContextLengthExceeded(
            f"there are {number} characters; the model takes {max_context_tokens} tokens", param
        )
