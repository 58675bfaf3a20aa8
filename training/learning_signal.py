"""Finds out if a training can learn from its responses: they need tokens, and rewards that differ."""

from collections.abc import Iterable, Sequence

from registry.records import Group, RewardedResponse

NEGLIGIBLE = 1e-9
"""The largest size of an advantage that counts as zero. Rounding leaves so little; real ones are about 1."""

NOTHING_LEFT = (
    "only responses without tokens have rewards that differ from the mean of their group, "
    "so there is nothing to learn"
)


def is_lost(responses: Iterable[tuple[float, int]]) -> bool:
    """Return True if there are non-zero advantages, but only for responses that have no tokens.

    Args:
        responses: the advantage and the number of completion tokens of each response of all groups.
    """
    sizes = [num_tokens for advantage, num_tokens in responses if abs(advantage) > NEGLIGIBLE]
    return bool(sizes) and not any(sizes)


def missing(groups: Sequence[Group]) -> dict[str, float]:
    """Metrics that count the cut responses, and the responses that were cut before their first token."""
    responses = [response for group in groups for response in group.responses]
    return {
        "cut_responses": sum(not response.ends_turn for response in responses),
        "empty_responses": sum(is_empty(response) for response in responses),
    }


def is_empty(response: RewardedResponse) -> bool:
    """Return True if a response has no token: it was cut, and only its empty last turn is learned."""
    if response.ends_turn:
        return False
    if not response.messages:
        return not response.content
    last = response.messages[-1]
    learned = [turn for turn in response.messages if turn.role == "assistant" and turn.is_trained]
    return learned == [last] and not (last.content or last.tool_calls)
