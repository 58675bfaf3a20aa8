"""Whether responses have anything to learn from: without tokens, or a difference, there is nothing."""

from collections.abc import Iterable, Sequence

from registry.records import Group

NEGLIGIBLE = 1e-9
"""Of an advantage, next to those of about 1 that there are otherwise: it is what rounding left of zero."""

NOTHING_LEFT = "nothing is left to learn from: the responses that make a difference have no tokens"


def is_lost(responses: Iterable[tuple[float, int]]) -> bool:
    """Whether all that could be learned was to be learned of responses that have no tokens.

    Args:
        responses: of all groups, the advantage and the number of completion tokens of each.
    """
    sizes = [num_tokens for advantage, num_tokens in responses if abs(advantage) > NEGLIGIBLE]
    return bool(sizes) and not any(sizes)


def missing(groups: Sequence[Group], num_rows: int) -> dict[str, float]:
    """Metrics of what a training did without: ends of turns, and whole responses, which are no rows."""
    responses = [response for group in groups for response in group.responses]
    return {
        "cut_responses": sum(not response.ends_turn for response in responses),
        "empty_responses": len(responses) - num_rows,
    }
