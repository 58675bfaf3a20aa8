"""Limits adapters in vLLM to linear layers, and computes them on the CPU in one product for each adapter.

**The output layer and the embedding have no adapters**, on CPUs and GPUs. The trainer makes none (PEFT's
`all-linear` leaves these layers out), and vLLM refuses an adapter that has one. Without this change vLLM
would multiply with zeros at each step. It would also always use the rows of the sampled batch. The
log-probabilities of a prompt have other rows: such a request beside two private models ended the engine. On
GPUs such rows get no adapter's part, or that of another adapter (github.com/vllm-project/vllm/issues/51594).

**On the CPU** vLLM's own code has two faults, which GroupedLora repairs. It copies the adapter's matrices for
every token, which is gigabytes per step for a batch of prompts. It also uses the last slot for the index -1
of a token without an adapter, so that the base model answers with the weights in that slot. The rows of a
step are grouped once, and all linear layers are called with all of them. A call with fewer rows is refused.

`register` puts both into each of vLLM's processes, as a plugin (`vllm.general_plugins`, pyproject.toml).
"""

from collections.abc import Sequence
from typing import Any

import torch

from serve_app.model_server.vllm_private import CpuPlatform, PunicaWrapperCPU, model_manager

FEW_ROWS = 64
"""The largest number of rows for which one call for all adapters can be faster than a call per adapter."""

Group = tuple[int, slice | torch.Tensor]
"""An adapter's slot, and the rows of the batch that use it."""


vllm_supported_modules = model_manager.get_supported_lora_modules


def register() -> None:
    qualified_name = f"{GroupedLora.__module__}.{GroupedLora.__qualname__}"
    CpuPlatform.get_punica_wrapper = classmethod(lambda cls: qualified_name)
    model_manager.get_supported_lora_modules = linear_modules


def linear_modules(model: torch.nn.Module) -> list[str]:
    """Returns the names of the modules that adapters may change."""
    others = {name for part in model.modules() for name in getattr(part, "embedding_modules", None) or ()}
    return [name for name in vllm_supported_modules(model) if name not in others]


class GroupedLora(PunicaWrapperCPU):
    """vLLM's LoRA computation on the CPU, by groups of rows with the same adapter.

    Shapes: x (tokens, in); y (tokens, out); A (slots, 1, rank, in) and B (slots, 1, out, rank), stacked.
    """

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
        """Refuses the call.

        The inherited methods would use an adapter's weights for the base model, or the rows of another batch.
        They are only called with other engine arguments or kinds of models.
        """
        raise NotImplementedError("adapters of other than whole linear layers are not available on the CPU")

    add_shrink = add_expand = add_lora_embedding = add_lora_logits = apply_lora_full_linear = _refused


class Rows:
    """The rows of a batch by the slot of each row; -1: no adapter."""

    def __init__(self, slots: torch.Tensor) -> None:
        self.number = len(slots)
        self.groups = groups_of(slots)
        self.adapted = (slots >= 0).nonzero().squeeze(1)
        self.slots = slots[self.adapted]

    def are_few(self, num_slots: int) -> bool:
        """Returns True if computing all slots together costs less than one group after the other."""
        return self.number <= FEW_ROWS and len(self.groups) > 1 and num_slots <= 2 * len(self.groups)


def groups_of(slots: torch.Tensor) -> list[Group]:
    """Returns the groups of a batch. `slots` (tokens) has the slot of each token; -1: no adapter."""
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
    """Computes y[row] += scale * B A x[row] for each row with its own A and B.

    Rows without an adapter do not change. `y`, `a` and `b` have one item for each part of the output. Rows of
    x after those of the batch are padding and have no adapter. A row is never combined with a number that was
    computed with another adapter's weights, not even if these are infinite.
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
