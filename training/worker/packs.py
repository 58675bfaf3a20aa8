"""Puts rows of token ids into packs: the input of one forward pass, without padding, with each prompt once.

    rows -> branches (a prompt and completions of it) -> packs of at most `max_tokens`

A pack is one sequence: prompt, completion, completion, ..., prompt, completion, ... Every token attends only
to its own prompt and its own completion (`worker.attention`), and has the position that it would have in its
row alone. The log-probabilities of a row are therefore those of the row alone. The last token of a completion
predicts nothing and is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from training.conversation import Exchange
from training.worker.attention import Layout, Span, layout_of


@dataclass(frozen=True)
class Row:
    """One response: its tokens, and the advantage that each of its completion tokens gets."""

    exchange: Exchange
    advantage: float

    @property
    def num_inputs(self) -> int:
        """The number of completion tokens that a forward pass needs."""
        return len(self.exchange.completion_ids) - 1


@dataclass(frozen=True)
class Branches:
    """One prompt and the numbers of the rows that answer it."""

    prompt_ids: list[int]
    rows: list[int]
    num_tokens: int


@dataclass(frozen=True)
class Pack:
    """T input tokens that score C completion tokens.

    Each completion token has a value in these: `sources` (C,), the index of the input token whose output
    predicts it; `targets` (C,), its id; `places` (C,), its index among all completion tokens of the job, row
    after row; `advantages` (C,). A pack that does not count adds nothing: it is only computed because other
    workers wait for it.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: Layout
    sources: Tensor
    targets: Tensor
    places: Tensor
    advantages: Tensor
    num_rows: int
    counts: bool = True

    @property
    def num_tokens(self) -> int:
        return self.input_ids.size(1)


def packs(rows: Sequence[Row], numbers: Sequence[int], max_tokens: int, device: torch.device) -> list[Pack]:
    """The packs of the rows of a job that have these numbers. A row longer than `max_tokens` is a pack alone.

    The largest pack comes first, so that a job that does not fit in memory fails at once.
    """
    starts = list(accumulate((len(row.exchange.completion_ids) for row in rows), initial=0))
    return [_build(rows, starts, plan, device) for plan in _plan(rows, numbers, max_tokens)]


def share(rows: Sequence[Row], max_tokens: int, rank: int, size: int) -> list[int]:
    """The numbers of the rows that worker `rank` of `size` takes. All take about the same number of tokens.

    Shares are whole packs if there are enough of them. Otherwise they are single rows, so that small jobs are
    shared too. Every worker computes the same shares.
    """
    plans = _plan(rows, range(len(rows)), max_tokens)
    units = [[number for branch in plan for number in branch.rows] for plan in plans]
    if len(units) < size:
        units = [[number] for unit in units for number in unit]
    loads = [0] * size
    shares: list[list[int]] = [[] for _ in range(size)]
    for unit in sorted(units, key=lambda unit: -_num_inputs(rows, unit)):
        lightest = loads.index(min(loads))
        loads[lightest] += _num_inputs(rows, unit)
        shares[lightest] += unit
    return sorted(shares[rank])


def _num_inputs(rows: Sequence[Row], numbers: Sequence[int]) -> int:
    """The number of completion inputs of these rows.

    Prompts are not counted: where the numbers matter, each prompt is in every unit.
    """
    return sum(rows[number].num_inputs for number in numbers)


def _plan(rows: Sequence[Row], numbers: Sequence[int], max_tokens: int) -> list[list[Branches]]:
    """Fit the completions of each prompt into branches, and the branches into packs: longest first."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for number in numbers:
        by_prompt.setdefault(tuple(rows[number].exchange.prompt_ids), []).append(number)
    branches = []
    for prompt_ids, answers in by_prompt.items():
        sizes = {number: rows[number].num_inputs for number in answers}
        for chosen in _first_fit(sizes, max_tokens - len(prompt_ids)):
            num_tokens = len(prompt_ids) + sum(sizes[number] for number in chosen)
            branches.append(Branches(list(prompt_ids), chosen, num_tokens))
    sizes = {index: branch.num_tokens for index, branch in enumerate(branches)}
    plans = [[branches[index] for index in chosen] for chosen in _first_fit(sizes, max_tokens)]
    return sorted(plans, key=lambda plan: -sum(branch.num_tokens for branch in plan))


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


def _build(rows: Sequence[Row], starts: list[int], plan: list[Branches], device: torch.device) -> Pack:
    ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    places: list[int] = []
    advantages: list[float] = []
    spans: list[Span] = []
    for branch in plan:
        prompt = Span(len(ids), len(branch.prompt_ids), None)
        spans.append(prompt)
        ids += branch.prompt_ids
        positions += range(prompt.length)
        for number in branch.rows:
            completion = rows[number].exchange.completion_ids
            first = len(ids)
            spans.append(Span(first, len(completion) - 1, prompt))
            ids += completion[:-1]
            positions += range(prompt.length, prompt.length + len(completion) - 1)
            sources += [prompt.start + prompt.length - 1, *range(first, len(ids))]
            targets += completion
            places += range(starts[number], starts[number] + len(completion))
            advantages += [rows[number].advantage] * len(completion)
    return Pack(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        layout=layout_of(spans, device),
        sources=torch.tensor(sources, device=device),
        targets=torch.tensor(targets, device=device),
        places=torch.tensor(places, device=device),
        advantages=torch.tensor(advantages, dtype=torch.float32, device=device),
        num_rows=sum(len(branch.rows) for branch in plan),
    )
