"""The rows of examples and of pairs. Those of GRPO's groups are made in `worker.job`."""

from collections.abc import Sequence

from registry.errors import NoLearningSignal
from registry.records import Example, JobRequest, Pair
from training.transcript import exchanges_of
from training.worker.packs import Row
from training.worker.resident_model import ResidentModel

PREFERRED, REJECTED = 1.0, -1.0
"""The advantages of the sides of a pair."""


def taught_rows(resident: ResidentModel, request: JobRequest) -> list[Row]:
    """The rows of examples or pairs that are learned; none for GRPO."""
    return _rows(resident, request.examples, request.pairs)


def validation_rows(resident: ResidentModel, request: JobRequest) -> list[Row]:
    """The rows that are measured and not learned; none if the request has none."""
    return _rows(resident, request.validation_examples, request.validation_pairs)


def _rows(resident: ResidentModel, examples: Sequence[Example], pairs: Sequence[Pair]) -> list[Row]:
    """Raises: InvalidRequest, ContextLengthExceeded, NoLearningSignal."""
    if examples:
        return rows_of_examples(resident, examples)
    return rows_of_pairs(resident, pairs) if pairs else []


def rows_of_examples(resident: ResidentModel, examples: Sequence[Example]) -> list[Row]:
    """The rows of all examples. Their advantage is the weight of the example.

    Raises: InvalidRequest, ContextLengthExceeded, NoLearningSignal.
    """
    if not any(example.weight for example in examples):
        raise NoLearningSignal("the weight of every example is 0, so there is nothing to learn")
    return [
        Row(exchange, example.weight, item)
        for item, example in enumerate(examples)
        for exchange in exchanges_of(
            resident.tokenizer, example.messages, example.tools, resident.max_context_tokens
        )
    ]


def rows_of_pairs(resident: ResidentModel, pairs: Sequence[Pair]) -> list[Row]:
    """The rows of both sides of all pairs.

    Raises: InvalidRequest, ContextLengthExceeded, NoLearningSignal.
    """
    rows: list[Row] = []
    has_difference = False
    for item, pair in enumerate(pairs):
        preferred, rejected = (
            exchanges_of(
                resident.tokenizer,
                (*pair.messages, *side),
                pair.tools,
                resident.max_context_tokens,
                num_given=len(pair.messages),
            )
            for side in (pair.preferred, pair.rejected)
        )
        has_difference |= preferred != rejected
        rows += [Row(exchange, PREFERRED, item) for exchange in preferred]
        rows += [Row(exchange, REJECTED, item) for exchange in rejected]
    if not has_difference:
        raise NoLearningSignal("the sides of every pair are equal, so there is nothing to learn")
    return rows
