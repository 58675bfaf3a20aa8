"""Rows that go through the model in one pack get exactly the scores that they would get alone."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from training.conversation import Exchange
from training.worker import log_probs as log_probs_module
from training.worker.attention import IMPLEMENTATION
from training.worker.log_probs import SelectedLogProbs, log_probs
from training.worker.packs import Row, packs, share

CPU = torch.device("cpu")
Shape = list[tuple[int, list[int]]]
"""Prompt lengths, with the lengths of the completions of each."""

SHAPES: dict[str, Shape] = {
    "one row": [(3, [4])],
    "one token each": [(1, [1]), (1, [1])],
    "a group": [(12, [5, 9, 1, 17, 16])],
    "groups of many lengths": [(20, [5, 30]), (3, [8, 8, 40, 1]), (33, [2]), (1, [64, 3])],
}


def rows_of(shape: Shape) -> list[Row]:
    choose = random.Random(0)
    rows: list[Row] = []
    for prompt_length, lengths in shape:
        prompt_ids = choose.choices(range(93), k=prompt_length)
        for length in lengths:
            rows.append(Row(Exchange(prompt_ids, choose.choices(range(93), k=length)), float(len(rows))))
    return rows


@pytest.fixture(scope="module")
def model(tiny_weights: Path) -> Any:
    base = AutoModelForCausalLM.from_pretrained(tiny_weights, attn_implementation=IMPLEMENTATION)
    adapted = get_peft_model(base.requires_grad_(False), LoraConfig(r=2, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return adapted


def gradients(model: Any) -> Tensor:
    collected = torch.cat([w.grad.flatten() for w in model.parameters() if w.requires_grad])
    model.zero_grad()
    return collected


def alone(model: Any, row: Row) -> Tensor:
    ids = torch.tensor([row.exchange.prompt_ids + row.exchange.completion_ids])
    logits = model(input_ids=ids).logits[0, len(row.exchange.prompt_ids) - 1 : -1]
    targets = torch.tensor(row.exchange.completion_ids).unsqueeze(1)
    result: Tensor = logits.log_softmax(-1).gather(1, targets).squeeze(1)
    return result


@pytest.mark.parametrize("max_tokens", [1, 50, 4096])
@pytest.mark.parametrize("name", SHAPES)
def test_packed_rows_score_and_learn_as_they_do_alone(model: Any, name: str, max_tokens: int) -> None:
    rows = rows_of(SHAPES[name])
    expected = torch.cat([alone(model, row) for row in rows])
    weights = torch.linspace(-1, 1, len(expected))
    (expected * weights).sum().backward()
    expected_gradients = gradients(model)
    found = torch.full_like(expected, torch.nan)
    for pack in packs(rows, range(len(rows)), max_tokens, CPU):
        scored = log_probs(model.get_base_model(), pack)
        (scored * weights[pack.places]).sum().backward()
        found[pack.places] = scored.detach()
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(gradients(model), expected_gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("max_tokens", [1, 40, 60, 4096])
def test_packs_keep_to_the_budget_and_leave_nothing_out(max_tokens: int) -> None:
    rows = rows_of(SHAPES["groups of many lengths"])
    made = packs(rows, range(len(rows)), max_tokens, CPU)
    assert all(pack.num_tokens <= max_tokens or pack.num_units == 1 for pack in made)
    assert [pack.num_tokens for pack in made] == sorted((pack.num_tokens for pack in made), reverse=True)
    places = sorted(itertools.chain(*(pack.places.tolist() for pack in made)))
    assert places == list(range(sum(len(row.exchange.completion_ids) for row in rows)))
    assert sum(pack.num_units for pack in made) == len(rows)


@pytest.mark.parametrize("max_tokens", [1, 4096])
def test_only_trained_tokens_are_scored(model: Any, max_tokens: int) -> None:
    """The other tokens of a completion, such as the results of tools, are only read."""
    choose = random.Random(1)
    rows = []
    for row in rows_of(SHAPES["groups of many lengths"]):
        length = len(row.exchange.completion_ids)
        is_trained = [choose.random() < 0.5 for _ in range(length - 1)] + [True]
        exchange = Exchange(row.exchange.prompt_ids, row.exchange.completion_ids, is_trained)
        rows.append(Row(exchange, row.advantage))
    expected = torch.cat([alone(model, row)[torch.tensor(row.exchange.is_trained)] for row in rows])
    assert len(expected) == sum(row.exchange.num_trained for row in rows)
    found = torch.full_like(expected, torch.nan)
    for pack in packs(rows, range(len(rows)), max_tokens, CPU):
        with torch.no_grad():
            found[pack.places] = log_probs(model.get_base_model(), pack)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_best_tokens_are_those_that_a_greedy_choice_takes(model: Any) -> None:
    rows = rows_of(SHAPES["a group"])
    (pack,) = packs(rows, range(len(rows)), 4096, CPU)
    is_best = torch.zeros_like(pack.targets, dtype=torch.bool)
    log_probs(model.get_base_model(), pack, is_best)
    assert not is_best.all(), "the tokens are random"
    for row in rows:
        greedy = model(input_ids=torch.tensor([row.exchange.prompt_ids])).logits[0, -1].argmax().item()
        row.exchange.completion_ids[0] = greedy
    (pack,) = packs(rows, range(len(rows)), 4096, CPU)
    log_probs(model.get_base_model(), pack, is_best)
    starts = torch.tensor([0, 5, 14, 15, 32])
    assert is_best[torch.isin(pack.places, starts)].all()


def items_of_pairs(num_pairs: int) -> list[Row]:
    """Rows of pairs: both sides of some have the same prompt, and one side of some has two rows."""
    choose = random.Random(2)
    rows = []
    for item in range(num_pairs):
        prompt_ids = choose.choices(range(93), k=10)
        for side in (1.0, -1.0):
            rows.append(Row(Exchange(prompt_ids, choose.choices(range(93), k=5 + 3 * item)), side, item))
        if item % 2:
            rows.append(
                Row(Exchange(choose.choices(range(93), k=4), choose.choices(range(93), k=6)), 1.0, item)
            )
    choose.shuffle(rows)
    return rows


@pytest.mark.parametrize("max_tokens", [1, 60, 4096])
@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_rows_of_a_pair_are_in_one_pack_of_one_worker(max_tokens: int, size: int) -> None:
    rows = items_of_pairs(6)
    seen = []
    for rank in range(size):
        numbers = share(rows, range(len(rows)), max_tokens, rank, size, keeps_items=True)
        for pack in packs(rows, numbers, max_tokens, CPU, keeps_items=True):
            items = set(pack.items.tolist())
            assert pack.num_units == len(items)
            assert pack.num_tokens <= max_tokens or pack.num_units == 1
            expected = [number for number, row in enumerate(rows) if row.item in items]
            assert len(pack.targets) == sum(rows[number].exchange.num_trained for number in expected)
            assert set(pack.advantages.tolist()) == {1.0, -1.0}
            seen += sorted(items)
    assert sorted(seen) == list(range(6))


def test_a_prompt_that_both_sides_have_is_there_once() -> None:
    rows = [Row(Exchange([1] * 100, [2] * 10), side, 0) for side in (1.0, -1.0)]
    (pack,) = packs(rows, [0, 1], 1, CPU, keeps_items=True)
    assert pack.num_tokens == 100 + 2 * 9


def test_the_prompt_of_a_group_is_there_once() -> None:
    rows = rows_of([(100, [10] * 8)])
    (pack,) = packs(rows, range(8), 4096, CPU)
    assert pack.num_tokens == 100 + 8 * 9


def test_advantages_stay_with_their_rows() -> None:
    rows = rows_of(SHAPES["groups of many lengths"])
    expected = torch.cat([torch.full((len(row.exchange.completion_ids),), row.advantage) for row in rows])
    for pack in packs(rows, range(len(rows)), 50, CPU):
        assert torch.equal(pack.advantages, expected[pack.places])


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("name", SHAPES)
def test_every_row_has_one_worker(name: str, size: int) -> None:
    rows = rows_of(SHAPES[name])
    shares = [share(rows, range(len(rows)), 4096, rank, size) for rank in range(size)]
    assert sorted(itertools.chain(*shares)) == list(range(len(rows)))


def test_workers_get_about_as_much() -> None:
    rows = rows_of([(10, [20] * 16)])
    assert [len(share(rows, range(16), 4096, rank, 4)) for rank in range(4)] == [4] * 4


def test_log_probs_are_those_of_all_logits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(11, 8, dtype=torch.float64, requires_grad=True), torch.randn(7, 8).double()
    targets = torch.randint(7, (11,))
    expected = (hidden @ weight.T).log_softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
    upstream = torch.randn(11)
    (expected * upstream).sum().backward()
    expected_gradient, hidden.grad = hidden.grad, None
    monkeypatch.setattr(log_probs_module, "LOGITS_BYTES", 4 * 7 * 3)  # three rows at a time
    found = SelectedLogProbs.apply(hidden, weight, targets)
    (found * upstream).sum().backward()
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert hidden.grad is not None and expected_gradient is not None
    assert torch.allclose(hidden.grad, expected_gradient, atol=1e-5)
