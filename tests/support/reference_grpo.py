"""GRPO written from its formulas in plain PyTorch and PEFT: no trainer, no batches, no padding.

DeepSeekMath (arXiv:2402.03300), equations 3 and 4, normalised over tokens (DAPO, arXiv:2503.14476, eq. 8).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, set_seed

Pair = tuple[list[int], list[int]]
"""The token ids of a prompt and of a completion."""


@dataclass
class Trace:
    """The measures of each optimizer step. `first_gradient` is by the names of an adapter file."""

    losses: list[float] = field(default_factory=list)
    kls: list[float] = field(default_factory=list)
    clip_ratios: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    first_gradient: dict[str, Tensor] = field(default_factory=dict)


def base_model(weights: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()


def fresh_adapter(weights: Path, rank: int, alpha: int, seed: int) -> Any:
    base = base_model(weights)
    set_seed(seed)
    return get_peft_model(base, LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear"))


def loaded_adapter(weights: Path, adapter: Path) -> Any:
    return PeftModel.from_pretrained(base_model(weights), str(adapter), is_trainable=True)


def log_probs(model: Any, pair: Pair) -> Tensor:
    """(C,) log-probabilities of the completion tokens of one pair."""
    prompt, completion = pair
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1).gather(1, torch.tensor(completion).unsqueeze(1)).squeeze(1)


def adapter_weights(model: Any) -> dict[str, Any]:
    """The trainable parameters, by the names that they have in an adapter file."""
    named = model.named_parameters()
    return {name.replace(".default", ""): weight for name, weight in named if weight.requires_grad}


def adam(model: Any, lr: float, optimizer_state: dict[str, Tensor] | None = None) -> torch.optim.Optimizer:
    """Adam with `optimizer_state`, by parameter number and name (`3/exp_avg`); None: a new optimizer."""
    optimizer = torch.optim.AdamW(adapter_weights(model).values(), lr=lr, weight_decay=0.0)
    if optimizer_state is not None:
        states: dict[int, dict[str, Tensor]] = {}
        for key, tensor in optimizer_state.items():
            number, _, name = key.partition("/")
            states.setdefault(int(number), {})[name] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return optimizer


def train(
    model: Any,
    optimizer: torch.optim.Optimizer,
    pairs: list[Pair],
    advantages: list[float],
    steps: int,
    beta: float,
    epsilon: float,
) -> Trace:
    """Train the adapter of `model` in place."""
    weights = adapter_weights(model)
    num_tokens = sum(len(completion) for _, completion in pairs)
    with torch.no_grad():
        old = [log_probs(model, pair) for pair in pairs]
        with model.disable_adapter():
            ref = [log_probs(model, pair) for pair in pairs]
    trace = Trace()
    for _ in range(steps):
        loss, kl_sum, num_clipped = 0.0, 0.0, 0
        for i, advantage in enumerate(advantages):
            new = log_probs(model, pairs[i])
            ratio = (new - old[i]).exp()
            unclipped, clipped = ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage
            kl = (ref[i] - new).exp() - (ref[i] - new) - 1
            part = (-torch.minimum(unclipped, clipped) + beta * kl).sum() / num_tokens
            part.backward()
            loss += part.item()
            kl_sum += kl.sum().item()
            num_clipped += int((clipped < unclipped).sum())
        gradients = {name: weight.grad.clone() for name, weight in weights.items()}
        trace.first_gradient = trace.first_gradient or gradients
        trace.losses.append(loss)
        trace.kls.append(kl_sum / num_tokens)
        trace.clip_ratios.append(num_clipped / num_tokens)
        trace.grad_norms.append(sum(g.square().sum().item() for g in gradients.values()) ** 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return trace
