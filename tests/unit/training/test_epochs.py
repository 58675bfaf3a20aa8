"""The ends of epochs, and the numbers of the revisions that a job makes."""

import pytest

from registry.records import Example, Hyperparameters, JobRequest, Message, Method, Pair
from tests.support.training_world import REQUEST
from training.epochs import Epochs

SAID = (Message(role="user", content="?"), Message(role="assistant", content="a"))


def epochs(num_items: int, batch_size: int | None, steps: int, **fields: object) -> Epochs:
    values = Hyperparameters(
        learning_rate=1e-4, learning_steps=steps, beta=0, epsilon=0, batch_size=batch_size
    )
    request = JobRequest(
        method=Method.SUPERVISED, examples=(Example(messages=SAID),) * num_items, hyperparameters=values
    )
    return Epochs.of(request.model_copy(update={"keeps_epochs": True, **fields}))


@pytest.mark.parametrize(
    ("num_items", "batch_size", "steps", "ends", "checkpoints"),
    [
        (5, 2, 9, [3, 6, 9], {3: 11, 6: 12}),
        (5, 2, 8, [3, 6, 8], {3: 11, 6: 12}),
        (5, 2, 3, [3], {}),
        (4, None, 3, [1, 2, 3], {1: 11, 2: 12}),
        (4, 9, 2, [1, 2], {1: 12}),
        (4, 4, 1, [1], {}),
    ],
)
def test_each_epoch_but_the_last_has_a_revision_of_its_own(
    num_items: int, batch_size: int | None, steps: int, ends: list[int], checkpoints: dict[int, int]
) -> None:
    found = epochs(num_items, batch_size, steps)
    all_steps = range(1, steps + 1)
    assert [step for step in all_steps if found.is_end(step)] == ends
    made = {step: number for step in all_steps if (number := found.checkpoint_after(step, 13)) is not None}
    assert made == checkpoints
    assert found.num_checkpoints == len(checkpoints)


def test_pairs_have_epochs_too() -> None:
    pair = Pair(messages=SAID[:1], preferred=SAID[1:], rejected=SAID[1:])
    found = epochs(0, 1, 4, method=Method.DPO, examples=(), pairs=(pair, pair))
    assert (found.steps_per_epoch, found.num_checkpoints) == (2, 1)


def test_nothing_is_kept_unless_it_is_asked_for_and_never_by_grpo() -> None:
    assert epochs(4, 1, 8, keeps_epochs=False).num_checkpoints == 0
    assert epochs(4, 1, 8, keeps_epochs=False).checkpoint_after(4, 13) is None
    grpo = Epochs.of(REQUEST.model_copy(update={"keeps_epochs": True}))
    assert (grpo.num_checkpoints, grpo.steps_per_epoch) == (0, 1)
