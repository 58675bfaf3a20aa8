"""Rows of token ids -> padded micro-batches, in the shape TRL's GRPO loss takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from training.conversation import Exchange


@dataclass(frozen=True)
class Row:
    """One response: its tokens, and the advantage that each of its completion tokens gets."""

    exchange: Exchange
    advantage: float


def micro_batches(
    rows: Sequence[Row], size: int, pad_token_id: int, device: torch.device
) -> list[dict[str, Tensor]]:
    """Cut `rows` into micro-batches of at most `size` rows, each padded to its own longest row only.

    Rows of like lengths come together, the longest first: padding is little, and a job that does not fit
    in memory fails at once. The loss is normalised over all tokens, so neither order nor size matters to it.

    Returns:
        Per micro-batch of B rows, P prompt and C completion columns: `prompt_ids` and `prompt_mask`
        (B, P), padded on the left; `completion_ids` and `completion_mask` (B, C), padded on the right;
        `advantages` (B,); and `num_items_in_batch` (), the completion tokens of all rows of the job.
    """
    rows = sorted(rows, key=lambda row: _lengths(row.exchange), reverse=True)
    num_tokens = sum(len(row.exchange.completion_ids) for row in rows)
    batches = []
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        prompt_ids, prompt_mask = _padded([row.exchange.prompt_ids for row in chunk], pad_token_id, "left")
        completion_ids, completion_mask = _padded(
            [row.exchange.completion_ids for row in chunk], pad_token_id, "right"
        )
        batch = {
            "prompt_ids": prompt_ids,
            "prompt_mask": prompt_mask,
            "completion_ids": completion_ids,
            "completion_mask": completion_mask,
            "advantages": torch.tensor([row.advantage for row in chunk], dtype=torch.float32),
            "num_items_in_batch": torch.tensor(num_tokens),
        }
        batches.append({name: tensor.to(device) for name, tensor in batch.items()})
    return batches


def _lengths(exchange: Exchange) -> tuple[int, int]:
    return len(exchange.prompt_ids), len(exchange.completion_ids)


def _padded(sequences: list[list[int]], pad_token_id: int, side: str) -> tuple[Tensor, Tensor]:
    ids = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
    return (
        pad_sequence(ids, batch_first=True, padding_value=pad_token_id, padding_side=side),
        pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_side=side),
    )
