"""The rows of examples and of pairs, with what the objectives need to know of them."""

from pathlib import Path

import pytest

from registry.errors import ContextLengthExceeded, InvalidRequest
from registry.records import Example, Message
from tests.support.method_jobs import EXAMPLES, PAIRS, conversation
from tests.support.tiny_jobs import tiny_resident
from training.worker.resident_model import ResidentModel
from training.worker.rows import rows_of_examples, rows_of_pairs


@pytest.fixture(scope="module")
def resident(tiny_weights: Path) -> ResidentModel:
    return tiny_resident(tiny_weights)


def text_of(resident: ResidentModel, ids: list[int]) -> str:
    return "".join(resident.tokenizer.convert_ids_to_tokens(ids))


def test_rows_of_examples_have_their_weights_and_learn_every_turn(resident: ResidentModel) -> None:
    rows = rows_of_examples(resident, EXAMPLES)
    assert [row.item for row in rows] == [0, 1, 2, 3, 4]
    assert [row.advantage for row in rows] == [1, 1, 0.5, 0, 1]
    turns = rows[1].exchange
    assert text_of(resident, turns.prompt_ids) == "2+2="
    assert text_of(resident, turns.completion_ids) == "4~and_3+3=it_is_6,I_think~"
    assert turns.is_trained is not None
    trained = [
        token for token, is_trained in zip(turns.completion_ids, turns.is_trained, strict=True) if is_trained
    ]
    assert text_of(resident, trained) == "4~it_is_6,I_think~"


def test_rows_of_pairs_have_their_sides(resident: ResidentModel) -> None:
    rows = rows_of_pairs(resident, PAIRS[:2])
    assert [(row.item, row.advantage) for row in rows] == [(0, 1), (0, -1), (1, 1), (1, -1)]
    assert rows[0].exchange.prompt_ids == rows[1].exchange.prompt_ids
    assert text_of(resident, rows[1].exchange.completion_ids) == "no~"


def test_what_cannot_be_learned_is_refused(resident: ResidentModel) -> None:
    unanswered = Example(messages=(Message(role="user", content="2+2="),))
    with pytest.raises(InvalidRequest, match="no turn of the assistant"):
        rows_of_examples(resident, (EXAMPLES[0], unanswered))
    long = Example(messages=conversation("x" * 300, "y" * 300))
    with pytest.raises(ContextLengthExceeded, match=r"601.* 512"):
        rows_of_examples(resident, (long,))
