"""Adapters in vLLM: of linear layers alone, and on the CPU one matrix product for each adapter in the batch.

**The output layer and the embedding have no adapters**, on CPUs and GPUs: the trainer makes none (PEFT's
`all-linear` leaves them out) and vLLM refuses an adapter that has one. vLLM would otherwise multiply with
zeros at each step, and take the rows for it from the batch that is sampled, whatever it is called with: the
log-probabilities of a prompt, asked for beside two private models, are of other rows and ended the engine. On
GPUs such rows get no or another adapter's part (github.com/vllm-project/vllm/issues/51594).

**On the CPU** vLLM's own code copies the adapter's matrices for every token, which for a batch of prompts is
gigabytes a step, and takes the index -1 of a token without an adapter for the last slot: the base model then
answers with the weights of whoever has that slot. GroupedLora mends both. A step is mapped once, all linear
layers are called with its tokens; a call with fewer rows is of something else, and refused.

Both are put in vLLM's place, in each of its processes, by `register`, as a plugin (`vllm.general_plugins`,
pyproject.toml).
"""

from collections.abc import Sequence
from typing import Any

import torch
from vllm.lora import model_manager
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

FEW_ROWS = 64
"""Up to here calls cost more than the arithmetic of adapters that a row does not have."""

Group = tuple[int, slice | torch.Tensor]
"""An adapter's slot, and the rows of the batch that it answers."""


vllm_supported_modules = model_manager.get_supported_lora_modules


def register() -> None:
    from vllm.platforms.cpu import CpuPlatform

    qualified_name = f"{GroupedLora.__module__}.{GroupedLora.__qualname__}"
    CpuPlatform.get_punica_wrapper = classmethod(lambda cls: qualified_name)
    model_manager.get_supported_lora_modules = linear_modules


def linear_modules(model: torch.nn.Module) -> list[str]:
    """The names of the modules that adapters may have a part for."""
    others = {name for part in model.modules() for name in getattr(part, "embedding_modules", None) or ()}
    return [name for name in vllm_supported_modules(model) if name not in others]


class GroupedLora(PunicaWrapperCPU):
    """x (tokens, in); y (tokens, out); A (slots, 1, rank, in) and B (slots, 1, out, rank), stacked."""

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self._rows = Rows(self.token_lora_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: Sequence[torch.Tensor],
        lora_b_stacked: Sequence[torch.Tensor],
        scale: float,
        output_slices: Sequence[int],
        **kwargs: Any,
    ) -> None:
        parts = y.view(-1, y.shape[-1]).split(list(output_slices), dim=1)
        add_products(parts, x, lora_a_stacked, lora_b_stacked, scale, self._rows)

    def _refused(self, *args: Any, **kwargs: Any) -> None:
        """vLLM's own, inherited, would answer the base model with an adapter's weights, or take the rows of
        another batch. Nothing calls these without another engine argument or kind of model."""
        raise NotImplementedError("adapters of other than whole linear layers are not available on the CPU")

    add_shrink = add_expand = add_lora_embedding = add_lora_logits = apply_lora_full_linear = _refused


class Rows:
    """Of a batch, by the slot of each row, -1 for none."""

    def __init__(self, slots: torch.Tensor) -> None:
        self.number = len(slots)
        self.groups = groups_of(slots)
        self.adapted = (slots >= 0).nonzero().squeeze(1)
        self.slots = slots[self.adapted]

    def are_few(self, num_slots: int) -> bool:
        """Whether all slots at once cost less than one group after the other."""
        return self.number <= FEW_ROWS and len(self.groups) > 1 and num_slots <= 2 * len(self.groups)


def groups_of(slots: torch.Tensor) -> list[Group]:
    """`slots` (tokens): the slot of each token, -1 for none."""
    found: list[int] = torch.unique(slots).tolist()
    if len(found) == 1:
        return [(found[0], slice(0, len(slots)))] if found[0] >= 0 else []
    return [(slot, (slots == slot).nonzero().squeeze(1)) for slot in found if slot >= 0]


def add_products(
    y: Sequence[torch.Tensor],
    x: torch.Tensor,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    scale: float,
    rows: Rows,
) -> None:
    """y[row] += scale * B A x[row], of each row with its own A and B; rows without an adapter stay.

    `y`, `a` and `b` have one item for each part of the output. Rows of x behind those of the batch are
    padding and have no adapter. No row sees a number that was computed with another adapter's weights, were
    they infinite.
    """
    x = x.view(-1, x.shape[-1])
    if len(x) < rows.number or any(len(part) != len(x) for part in y):
        raise ValueError(f"{len(x)} rows for a batch of {rows.number} tokens")
    if rows.groups and rows.are_few(a[0].shape[0]):
        x = x[: rows.number]
        for part, m_a, m_b in zip(y, a, b, strict=True):
            hidden = torch.matmul(x, m_a.squeeze(1).transpose(1, 2))  # slots, rows, rank
            delta = torch.bmm(hidden.to(m_b.dtype), m_b.squeeze(1).transpose(1, 2))  # slots, rows, out
            own = delta[rows.slots, rows.adapted].to(part.dtype)
            part.index_add_(0, rows.adapted, own, alpha=scale)
        return
    for slot, of_group in rows.groups:
        x_group = x[of_group]
        for part, m_a, m_b in zip(y, a, b, strict=True):
            hidden = (x_group @ m_a[slot, 0].T).to(part.dtype)
            m_b_of_slot = m_b[slot, 0].T.to(part.dtype)
            if isinstance(of_group, slice):
                part[of_group].addmm_(hidden, m_b_of_slot, alpha=scale)
            else:
                part.index_add_(0, of_group, hidden @ m_b_of_slot, alpha=scale)
