"""Adapters on the CPU: one matrix product for each adapter in the batch.

vLLM's own CPU code copies the adapter's matrices for every token, which for a batch of prompts is gigabytes
a step, and takes the index -1 of a token without an adapter for the last slot: the base model then answers
with the weights of whoever has that slot. Both are mended here. The class is put in the place of vLLM's, in
each of its processes, by `register`, which vLLM calls as a plugin (`vllm.general_plugins`, pyproject.toml).
"""

from collections.abc import Sequence
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

Group = tuple[int, slice | torch.Tensor]
"""An adapter's slot, and the rows of the batch that it answers."""


def register() -> None:
    from vllm.platforms.cpu import CpuPlatform

    qualified_name = f"{GroupedLora.__module__}.{GroupedLora.__qualname__}"
    CpuPlatform.get_punica_wrapper = classmethod(lambda cls: qualified_name)


class GroupedLora(PunicaWrapperCPU):  # type: ignore[misc]
    """x (tokens, in); y (tokens, out); A (slots, 1, rank, in) and B (slots, 1, out, rank), stacked."""

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self._of_tokens = groups_of(self.token_lora_indices)
        self._of_samples = groups_of(self.sampler_indices)

    def add_shrink(
        self,
        y: Sequence[torch.Tensor],
        x: torch.Tensor,
        lora_a_stacked: Sequence[torch.Tensor],
        scale: float,
        **kwargs: Any,
    ) -> None:
        for output, weights in zip(y, lora_a_stacked, strict=True):
            shrink(output, x, weights, scale, self._of_tokens)

    def add_expand(
        self,
        y: torch.Tensor,
        x: Sequence[torch.Tensor],
        lora_b_stacked: Sequence[torch.Tensor],
        output_slices: Sequence[int],
        offset_start: int = 0,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        y = y.view(-1, y.shape[-1])
        for hidden, weights, width in zip(x, lora_b_stacked, output_slices, strict=True):
            expand(y[:, offset_start : offset_start + width], hidden, weights, self._of_tokens, add_inputs)
            offset_start += width

    def add_lora_embedding(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        expand(y, x, lora_b_stacked, self._of_tokens, add_inputs)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        x = x.view(-1, x.shape[-1])
        hidden = torch.zeros((x.shape[0], lora_b_stacked.shape[-1]), dtype=torch.float32)
        shrink(hidden, x, lora_a_stacked, scale, self._of_samples)
        expand(y.view(-1, y.shape[-1]), hidden, lora_b_stacked, self._of_samples, add_inputs=True)


def groups_of(indices: torch.Tensor) -> list[Group]:
    """`indices` (tokens): the slot of each token, -1 for none."""
    slots: list[int] = torch.unique(indices).tolist()
    if len(slots) == 1:
        return [(slots[0], slice(0, len(indices)))] if slots[0] >= 0 else []
    return [(slot, (indices == slot).nonzero().squeeze(1)) for slot in slots if slot >= 0]


def shrink(
    y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, scale: float, groups: list[Group]
) -> None:
    """y[rows] = scale * x[rows] @ A^T, of each group with its own A; in the type of y."""
    x = x.view(-1, x.shape[-1])
    y = y.view(-1, y.shape[-1])
    for slot, rows in groups:
        matrix = _matrix(weights, slot).to(y.dtype)
        y[rows, : matrix.shape[0]] = scale * (x[rows].to(y.dtype) @ matrix.T)


def expand(
    y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, groups: list[Group], add_inputs: bool
) -> None:
    """y[rows] += x[rows] @ B^T, of each group with its own B; `add_inputs` false: = instead of +=."""
    for slot, rows in groups:
        delta = x[rows].to(y.dtype) @ _matrix(weights, slot).to(y.dtype).T
        width = min(delta.shape[1], y.shape[1])  # padded vocabularies differ
        if add_inputs:
            y[rows, :width] += delta[:, :width]
        else:
            y[rows, :width] = delta[:, :width]


def _matrix(weights: torch.Tensor, slot: int) -> torch.Tensor:
    return weights[slot].view(weights.shape[-2:])
