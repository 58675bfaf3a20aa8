"""Puts rows of token ids into packs: the input of one forward pass, without padding, with each prompt once.

    rows -> branches (a prompt and completions of it) -> packs of at most `max_tokens`

A pack is one sequence: prompt, completion, completion, ..., prompt, completion, ... Every token attends only
to its own prompt and its own completion (`worker.attention`), and has the position that it would have in its
row alone. The log-probabilities of a row are therefore those of the row alone. The last token of a completion
predicts nothing and is left out. Only the completion tokens that are trained are scored.

Packs are made of units, which are not divided: single rows, or all rows of an item if a loss needs them
together, as that of a pair does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, compress

import torch
from torch import Tensor

from training.conversation import Exchange
from training.worker.attention import Layout, Span, layout_of


@dataclass(frozen=True)
class Row:
    """One prompt and completion, and what the objective needs to know of it.

    `advantage`: the factor of each of its trained tokens: the advantage of a response (GRPO), the weight of
    an example, or the side of a pair, which is 1 if it is preferred and -1 if it is rejected. `item`: the
    number of its response, example or pair in the request. A conversation may have several rows.
    """

    exchange: Exchange
    advantage: float
    item: int = 0

    @property
    def num_inputs(self) -> int:
        """The number of completion tokens that a forward pass needs."""
        return len(self.exchange.completion_ids) - 1


@dataclass(frozen=True)
class Branches:
    """One prompt and the numbers of the rows that continue it."""

    prompt_ids: list[int]
    rows: list[int]
    num_tokens: int


@dataclass(frozen=True)
class Pack:
    """T input tokens that score C trained tokens of completions.

    Each trained token has a value in these: `sources` (C,), the index of the input token whose output
    predicts it; `targets` (C,), its id; `places` (C,), its index among all trained tokens of the job, row
    after row; `advantages` (C,) and `items` (C,), those of its row. A pack that does not count adds nothing:
    it is only computed because other workers wait for it.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: Layout
    sources: Tensor
    targets: Tensor
    places: Tensor
    advantages: Tensor
    items: Tensor
    num_units: int
    counts: bool = True

    @property
    def num_tokens(self) -> int:
        return self.input_ids.size(1)


def packs(
    rows: Sequence[Row],
    numbers: Sequence[int],
    max_tokens: int,
    device: torch.device,
    keeps_items: bool = False,
) -> list[Pack]:
    """The packs of the rows of a job that have these numbers.

    A unit that is longer than `max_tokens` is a pack alone. The largest pack comes first, so that a job that
    does not fit in memory fails at once.

    Args:
        keeps_items: True: all rows of an item are in one pack, so a unit is an item; False: a unit is a row.
    """
    starts = list(accumulate((row.exchange.num_trained for row in rows), initial=0))
    return [
        _build(rows, starts, plan, device, keeps_items)
        for plan in _plan(rows, numbers, max_tokens, keeps_items)
    ]


def share(
    rows: Sequence[Row],
    numbers: Sequence[int],
    max_tokens: int,
    rank: int,
    size: int,
    keeps_items: bool = False,
) -> list[int]:
    """The numbers of the rows, of those with `numbers`, that worker `rank` of `size` takes.

    All take about the same number of tokens. Shares are whole packs if there are enough of them. Otherwise
    they are single units, so that small jobs are shared too. Every worker computes the same shares.
    """
    plans = _plan(rows, numbers, max_tokens, keeps_items)
    parts = [[number for branch in plan for number in branch.rows] for plan in plans]
    if len(parts) < size:
        parts = [unit for part in parts for unit in _units(rows, part, keeps_items)]
    loads = [0] * size
    shares: list[list[int]] = [[] for _ in range(size)]
    for part in sorted(parts, key=lambda part: -_num_inputs(rows, part)):
        lightest = loads.index(min(loads))
        loads[lightest] += _num_inputs(rows, part)
        shares[lightest] += part
    return sorted(shares[rank])


def _units(rows: Sequence[Row], numbers: Sequence[int], keeps_items: bool) -> list[list[int]]:
    if not keeps_items:
        return [[number] for number in numbers]
    by_item: dict[int, list[int]] = {}
    for number in numbers:
        by_item.setdefault(rows[number].item, []).append(number)
    return list(by_item.values())


def _num_inputs(rows: Sequence[Row], numbers: Sequence[int]) -> int:
    """The number of completion inputs of these rows.

    Prompts are not counted: where the numbers matter, each prompt is in every unit.
    """
    return sum(rows[number].num_inputs for number in numbers)


def _plan(
    rows: Sequence[Row], numbers: Sequence[int], max_tokens: int, keeps_items: bool
) -> list[list[Branches]]:
    """The branches of each pack: longest first."""
    if keeps_items:
        plans = _plan_items(rows, numbers, max_tokens)
    else:
        branches = _branches(rows, numbers, max_tokens)
        sizes = {index: branch.num_tokens for index, branch in enumerate(branches)}
        plans = [[branches[index] for index in chosen] for chosen in _first_fit(sizes, max_tokens)]
    return sorted(plans, key=lambda plan: -sum(branch.num_tokens for branch in plan))


def _plan_items(rows: Sequence[Row], numbers: Sequence[int], max_tokens: int) -> list[list[Branches]]:
    """Fit whole items into packs. A prompt that several rows of a pack have is in it once."""
    units = _units(rows, numbers, keeps_items=True)
    sizes = {
        index: sum(branch.num_tokens for branch in _branches(rows, unit)) for index, unit in enumerate(units)
    }
    return [
        _branches(rows, [number for index in chosen for number in units[index]])
        for chosen in _first_fit(sizes, max_tokens)
    ]


def _branches(rows: Sequence[Row], numbers: Sequence[int], max_tokens: int | None = None) -> list[Branches]:
    """Fit the completions of each prompt into branches of at most `max_tokens`; None: one for each prompt."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for number in numbers:
        by_prompt.setdefault(tuple(rows[number].exchange.prompt_ids), []).append(number)
    branches = []
    for prompt_ids, answers in by_prompt.items():
        sizes = {number: rows[number].num_inputs for number in answers}
        capacity = sum(sizes.values()) if max_tokens is None else max_tokens - len(prompt_ids)
        for chosen in _first_fit(sizes, capacity):
            num_tokens = len(prompt_ids) + sum(sizes[number] for number in chosen)
            branches.append(Branches(list(prompt_ids), chosen, num_tokens))
    return branches


def _first_fit(sizes: dict[int, int], capacity: int) -> list[list[int]]:
    """Bins of keys whose sizes sum to at most `capacity`. A key that is too large gets a bin alone."""
    bins: list[list[int]] = []
    room: list[int] = []
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        size = sizes[key]
        fitting = next((i for i, left in enumerate(room) if left >= size), None)
        if fitting is None:
            bins.append([key])
            room.append(capacity - size)
        else:
            bins[fitting].append(key)
            room[fitting] -= size
    return bins


def _build(
    rows: Sequence[Row], starts: list[int], plan: list[Branches], device: torch.device, keeps_items: bool
) -> Pack:
    ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    places: list[int] = []
    advantages: list[float] = []
    items: list[int] = []
    spans: list[Span] = []
    for branch in plan:
        prompt = Span(len(ids), len(branch.prompt_ids), None)
        spans.append(prompt)
        ids += branch.prompt_ids
        positions += range(prompt.length)
        for number in branch.rows:
            row, first = rows[number], len(ids)
            completion, num_trained = row.exchange.completion_ids, row.exchange.num_trained
            spans.append(Span(first, row.num_inputs, prompt))
            ids += completion[:-1]
            positions += range(prompt.length, prompt.length + row.num_inputs)
            is_trained = row.exchange.is_trained or [True] * len(completion)
            sources += compress([prompt.start + prompt.length - 1, *range(first, len(ids))], is_trained)
            targets += compress(completion, is_trained)
            places += range(starts[number], starts[number] + num_trained)
            advantages += [row.advantage] * num_trained
            items += [row.item] * num_trained
    numbers = [number for branch in plan for number in branch.rows]
    return Pack(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        layout=layout_of(spans, device),
        sources=torch.tensor(sources, device=device),
        targets=torch.tensor(targets, device=device),
        places=torch.tensor(places, device=device),
        advantages=torch.tensor(advantages, dtype=torch.float32, device=device),
        items=torch.tensor(items, device=device),
        num_units=len(_units(rows, numbers, keeps_items)),
    )
