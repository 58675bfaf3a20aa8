"""The rows of each step: all responses, or batches in an order that is new in each epoch."""

import pytest

from training.conversation import Exchange
from training.worker.batches import Batches, tokens_until
from training.worker.objective import num_trained
from training.worker.packs import Row


def rows_of_items(*items: int) -> list[Row]:
    return [Row(Exchange([1], [2, 3]), 1.0, item) for item in items]


def test_without_a_size_every_step_is_over_all_rows() -> None:
    batches = Batches(rows_of_items(0, 1, 2), None, seed=7)
    assert [batches.of_step(step) for step in (1, 2, 3)] == [(0, 1, 2)] * 3
    assert [batches.epochs_after(step) for step in (1, 2)] == [1, 2]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_an_epoch_has_every_item_once_and_its_last_batch_may_be_smaller(size: int) -> None:
    batches = Batches(rows_of_items(0, 1, 2, 3, 4), size, seed=7)
    per_epoch = -(-5 // size)
    for epoch in range(3):
        chosen = [batches.of_step(epoch * per_epoch + number + 1) for number in range(per_epoch)]
        assert sorted(row for batch in chosen for row in batch) == [0, 1, 2, 3, 4]
        assert [len(batch) for batch in chosen[:-1]] == [size] * (per_epoch - 1)
    assert batches.epochs_after(per_epoch) == 1
    assert batches.epochs_after(per_epoch + 1) == pytest.approx(1 + min(size, 5) / 5)


def test_the_order_is_new_in_each_epoch_and_the_same_in_each_attempt() -> None:
    rows = rows_of_items(*range(20))

    def orders(seed: int) -> list[list[tuple[int, ...]]]:
        batches = Batches(rows, 1, seed)
        return [[batches.of_step(epoch * 20 + number + 1) for number in range(20)] for epoch in range(3)]

    first = orders(7)
    assert first[0] != first[1] != first[2]
    assert orders(7) == first
    assert orders(8) != first
    batches = Batches(rows, 1, 7)
    assert batches.of_step(45) == first[2][4], "a resumed attempt begins anywhere"
    assert batches.of_step(5) == first[0][4]


def test_rows_of_one_item_are_in_one_batch() -> None:
    batches = Batches(rows_of_items(0, 0, 3, 3, 3, 4), 1, seed=1)
    assert sorted(batches.of_step(step) for step in (1, 2, 3)) == [(0, 1), (2, 3, 4), (5,)]
    assert batches.of_steps(2) == tuple(sorted(batches.of_step(1) + batches.of_step(2)))
    assert batches.of_steps(100) == tuple(range(6))


def test_tokens_of_the_first_steps_are_those_of_their_rows() -> None:
    rows = rows_of_items(0, 0, 1, 2, 3, 4)
    batches = Batches(rows, 2, seed=7)
    num_tokens = 0
    for step in range(1, 8):
        num_tokens += num_trained(rows, batches.of_step(step))
        assert tokens_until(step, rows, batches) == num_tokens > 0
