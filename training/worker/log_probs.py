"""Computes the log-probabilities of a pack's trained tokens, with only a part of the logits at a time."""

from typing import Any

import torch
from torch import Tensor

from training.worker.packs import Pack

LOGITS_BYTES = 2**27
"""The largest size of the logits that exist at a time, in float32."""


def log_probs(model: Any, pack: Pack, is_best: Tensor | None = None) -> Tensor:
    """(C,) float32 log-probabilities under `model`, a causal language model with or without an adapter.

    The model's head is applied only to the tokens that predict a trained token.

    Args:
        is_best: (C,) booleans, which are set: True if the model gives no other token a higher probability.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    hidden = decoder(
        input_ids=pack.input_ids, position_ids=pack.position_ids, use_cache=False, layout=pack.layout
    ).last_hidden_state[0]
    result: Tensor = SelectedLogProbs.apply(hidden[pack.sources], head.weight, pack.targets, is_best)
    return result


class SelectedLogProbs(torch.autograd.Function):
    """log_softmax(hidden @ weight.T)[targets], for a frozen `weight`, a slice of tokens at a time.

    The derivative of a log-probability by its hidden state is weight[target] - softmax(logits) @ weight. The
    forward pass computes it together with the logits, which are then freed; the backward pass only scales it.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, is_best: Tensor | None = None
    ) -> Tensor:
        """(C, H) hidden states, (V, H) weight, (C,) targets -> (C,) float32. Sets `is_best` (C,)."""
        inputs = hidden.to(weight.dtype)
        num_rows = max(1, LOGITS_BYTES // (4 * weight.size(0)))
        derivative = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        parts = []
        for start in range(0, len(targets), num_rows):
            rows = slice(start, start + num_rows)
            logits = (inputs[rows] @ weight.T).float()
            scale = logits.logsumexp(dim=1, keepdim=True)
            chosen = targets[rows].unsqueeze(1)
            parts.append((logits.gather(1, chosen) - scale).squeeze(1))
            if is_best is not None:
                is_best[rows] = logits.gather(1, chosen).squeeze(1) >= logits.amax(dim=1)
            if derivative is not None:
                probabilities = logits.sub_(scale).exp_().to(weight.dtype)
                derivative[rows] = weight[targets[rows]] - probabilities @ weight
        ctx.hidden_dtype = hidden.dtype
        ctx.save_for_backward(derivative)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (derivative,) = ctx.saved_tensors
        return (derivative * gradients[0].unsqueeze(1)).to(ctx.hidden_dtype), None, None, None
