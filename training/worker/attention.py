"""Attention inside a pack: each prompt attends to itself, each completion to its prompt and to itself.

    spans -> blocks of like lengths -> one scaled_dot_product_attention per block and layer

With a mask over the whole pack, most of the work would go into pairs of tokens that may not see each other.
Therefore spans of like length are gathered into padded blocks, and the outputs are put back in their places.
The implementation is registered with transformers as `tiger_packed`. It takes the layout as a keyword of the
model's forward; without a layout it is transformers' own `sdpa`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.worker.transformers_private import AttentionInterface, sdpa_attention_forward

IMPLEMENTATION = "tiger_packed"


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of a pack: a prompt (`prompt` is None), or a completion of `prompt`."""

    start: int
    length: int
    prompt: "Span | None"


@dataclass(frozen=True)
class Block:
    """N spans, padded to L queries and K keys each.

    `queries` (N, L) and `keys` (N, K) are indices of tokens. `mask` (N or 1, 1, L, K) says which keys a query
    sees. For prompts `mask` is None: their keys are their queries, and attention is causal.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Layout:
    """The blocks of a pack, and the place of each token's output.

    `places` (T,) are indices into the outputs of all blocks, laid end to end.
    """

    blocks: tuple[Block, ...]
    places: Tensor


def layout_of(spans: Sequence[Span], device: torch.device) -> Layout:
    """The layout of a pack. The spans cover the pack in order and without gaps."""
    alike: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in spans:
        if span.length:
            prompt_length = span.prompt.length if span.prompt is not None else 0
            alike[prompt_length.bit_length(), span.length.bit_length()].append(span)
    blocks = []
    places = torch.zeros(sum(span.length for span in spans), dtype=torch.long)
    offset = 0
    for members in alike.values():
        block = _block(members)
        for number, span in enumerate(members):
            first = offset + number * block.queries.size(1)
            places[span.start : span.start + span.length] = torch.arange(first, first + span.length)
        offset += block.queries.numel()
        mask = None if block.mask is None else block.mask.to(device)
        blocks.append(Block(block.queries.to(device), block.keys.to(device), mask))
    return Layout(tuple(blocks), places.to(device))


def _block(spans: Sequence[Span]) -> Block:
    """A block of these spans.

    Queries are padded on the right and prompts on the left, so that a completion follows its prompt.
    """
    num_queries = max(span.length for span in spans)
    columns = torch.arange(num_queries)
    starts = torch.tensor([span.start for span in spans]).unsqueeze(1)
    lengths = torch.tensor([span.length for span in spans]).unsqueeze(1)
    queries = (starts + columns).where(columns < lengths, starts)
    prompts = [span.prompt for span in spans if span.prompt is not None]
    if not prompts:
        return Block(queries, queries, None)
    prompt_lengths = torch.tensor([prompt.length for prompt in prompts]).unsqueeze(1)
    num_prompt = int(prompt_lengths.max())
    ends = torch.tensor([prompt.start for prompt in prompts]).unsqueeze(1) + prompt_lengths
    before = torch.arange(-num_prompt, 0)
    prompt_keys = (ends + before).where(-before <= prompt_lengths, ends - 1)
    sees_prompt = (-before <= prompt_lengths)[:, None, None, :].expand(-1, 1, num_queries, -1)
    sees_itself = (columns.unsqueeze(1) >= columns).expand(len(spans), 1, -1, -1)
    mask = torch.cat([sees_prompt, sees_itself], dim=3)
    return Block(queries, torch.cat([prompt_keys, queries], dim=1), mask)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention within the spans of `layout`.

    (1, H, T, D) queries and (1, H_kv, T, D) keys and values -> (1, T, H, D).
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    queries, keys, values = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    outputs = []
    for block in layout.blocks:
        output = F.scaled_dot_product_attention(
            queries[block.queries].transpose(1, 2),
            keys[block.keys].transpose(1, 2),
            values[block.keys].transpose(1, 2),
            attn_mask=block.mask,
            is_causal=block.mask is None,
            scale=scaling,
            enable_gqa=queries.size(1) != keys.size(1),
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[layout.places].unsqueeze(0), None


AttentionInterface.register(IMPLEMENTATION, packed_attention)
