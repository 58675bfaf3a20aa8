"""Supervised training and DPO written from their formulas in plain PyTorch: no batches, no padding, no packs.

DPO is that of Rafailov et al., arXiv:2305.18290, equation 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.support.reference_grpo import adapter_weights, log_probs
from training.conversation import Exchange

Side = list[Exchange]
"""The rows of one response of a pair."""


@dataclass
class Trace:
    """The measures of each optimizer step. `first_gradient` is in the order of the optimizer's parameters."""

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    first_gradient: list[Tensor] = field(default_factory=list)


def trained_log_probs(model: Any, exchange: Exchange) -> Tensor:
    """The log-probabilities of the trained tokens of one row."""
    scored = log_probs(model, (exchange.prompt_ids, exchange.completion_ids))
    return scored if exchange.is_trained is None else scored[torch.tensor(exchange.is_trained)]


def supervised_loss(model: Any, exchanges: Sequence[Exchange], weights: Sequence[float]) -> Tensor:
    """The sum of weight * -log p over all trained tokens, divided by their number."""
    scored = [trained_log_probs(model, exchange) for exchange in exchanges]
    total = sum((-weight * each.sum() for weight, each in zip(weights, scored, strict=True)), torch.zeros(()))
    return total / sum(len(each) for each in scored)


def side_score(model: Any, side: Side) -> Tensor:
    return torch.stack([trained_log_probs(model, exchange).sum() for exchange in side]).sum()


def start_scores(model: Any, pairs: Sequence[tuple[Side, Side]]) -> list[tuple[float, float]]:
    with torch.no_grad():
        return [(side_score(model, a).item(), side_score(model, b).item()) for a, b in pairs]


def dpo_loss(
    model: Any, pairs: Sequence[tuple[Side, Side]], starts: Sequence[tuple[float, float]], beta: float
) -> Tensor:
    """The mean of -log sigmoid(margin) over the pairs."""
    losses = []
    for (preferred, rejected), (start_preferred, start_rejected) in zip(pairs, starts, strict=True):
        reward_preferred = beta * (side_score(model, preferred) - start_preferred)
        reward_rejected = beta * (side_score(model, rejected) - start_rejected)
        losses.append(-torch.log(torch.sigmoid(reward_preferred - reward_rejected)))
    return torch.stack(losses).mean()


def descend(model: Any, optimizer: torch.optim.Optimizer, losses: Sequence[Callable[[], Tensor]]) -> Trace:
    """Make one optimizer step for each of the losses."""
    weights = list(adapter_weights(model).values())
    trace = Trace()
    for loss_of in losses:
        loss = loss_of()
        loss.backward()
        gradients = [weight.grad.clone() for weight in weights]
        trace.first_gradient = trace.first_gradient or gradients
        trace.losses.append(loss.item())
        trace.grad_norms.append(sum(g.square().sum().item() for g in gradients) ** 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return trace
