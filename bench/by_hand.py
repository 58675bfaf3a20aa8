"""A training loop as one would write it by hand: PyTorch, PEFT and AdamW, rows padded into micro-batches.

The measurements compare `training` with it, on the same tokens, adapter and dtypes. Rows of like lengths are
put together, since anybody who writes such a loop does at least that. Log-probabilities come from the logits
of all completion tokens at once. The old ones of GRPO are computed before the first step.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from registry.records import Hyperparameters, JobRequest, Method
from training.worker.job import rows_of
from training.worker.packs import Row
from training.worker.resident_model import ResidentModel
from training.worker.rows import rows_of_examples


@dataclass(frozen=True)
class Batch:
    """B rows: `ids` and `mask` (B, P + C), prompts padded on the left; `completion_mask` (B, C)."""

    ids: Tensor
    mask: Tensor
    completion_mask: Tensor
    advantages: Tensor


def train_by_hand(
    resident: ResidentModel, job: JobRequest, rank: int, size: int
) -> list[tuple[float, float]]:
    """Loss and seconds of each optimizer step, with micro-batches of `size` rows and a fresh adapter.

    The loss is that of the method of the job: GRPO or supervised training.
    """
    is_grpo = job.method is Method.GRPO
    rows = rows_of(resident, job) if is_grpo else rows_of_examples(resident, job.examples)
    rows.sort(key=lambda row: len(row.exchange.prompt_ids) + len(row.exchange.completion_ids), reverse=True)
    pad = resident.tokenizer.pad_token_id
    batches = [_batch(rows[i : i + size], pad, resident.device) for i in range(0, len(rows), size)]
    num_tokens = sum(len(row.exchange.completion_ids) for row in rows)
    with resident.lend() as base:
        base.set_attn_implementation("sdpa")
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model: Any = get_peft_model(base, lora)
        if resident.checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        make = _grpo_losses if is_grpo else _supervised_losses
        losses = make(model, batches, num_tokens, job.hyperparameters)
        return _steps(model, losses, job.hyperparameters)


def _batch(rows: list[Row], pad: int, device: torch.device) -> Batch:
    prompts = [torch.tensor(row.exchange.prompt_ids) for row in rows]
    completions = [torch.tensor(row.exchange.completion_ids) for row in rows]

    def padded(sequences: list[Tensor], value: int, side: str) -> Tensor:
        return pad_sequence(sequences, batch_first=True, padding_value=value, padding_side=side)

    ones = [[torch.ones_like(ids) for ids in sequences] for sequences in (prompts, completions)]
    completion_mask = padded(ones[1], 0, "right")
    return Batch(
        ids=torch.cat([padded(prompts, pad, "left"), padded(completions, pad, "right")], dim=1).to(device),
        mask=torch.cat([padded(ones[0], 0, "left"), completion_mask], dim=1).to(device),
        completion_mask=completion_mask.to(device),
        advantages=torch.tensor([row.advantage for row in rows], device=device).unsqueeze(1),
    )


def _grpo_losses(
    model: Any, batches: list[Batch], num_tokens: int, values: Hyperparameters
) -> list[Callable[[], Tensor]]:
    with torch.no_grad():
        old = [_log_probs(model, batch) for batch in batches]  # also the base model's: the adapter is fresh

    def loss_of(batch: Batch, before: Tensor) -> Tensor:
        new = _log_probs(model, batch)
        ratio = (new - before).exp()
        clipped = ratio.clamp(1 - values.epsilon, 1 + values.epsilon)
        kl = (before - new).exp() - (before - new) - 1
        gain = torch.minimum(ratio * batch.advantages, clipped * batch.advantages)
        return ((values.beta * kl - gain) * batch.completion_mask).sum() / num_tokens

    return [partial(loss_of, batch, before) for batch, before in zip(batches, old, strict=True)]


def _supervised_losses(
    model: Any, batches: list[Batch], num_tokens: int, values: Hyperparameters
) -> list[Callable[[], Tensor]]:
    def loss_of(batch: Batch) -> Tensor:
        return -(_log_probs(model, batch) * batch.completion_mask).sum() / num_tokens

    return [partial(loss_of, batch) for batch in batches]


def _steps(
    model: Any, losses: Sequence[Callable[[], Tensor]], values: Hyperparameters
) -> list[tuple[float, float]]:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=values.learning_rate, weight_decay=0.0)
    steps = []
    for _ in range(values.learning_steps):
        start = time.perf_counter()
        total = torch.zeros((), device=weights[0].device)
        for loss_of in losses:
            loss = loss_of()
            loss.backward()
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
        steps.append((total.item(), time.perf_counter() - start))
    return steps


def _log_probs(model: Any, batch: Batch) -> Tensor:
    """(B, C) log-probabilities of the completion tokens."""
    num_columns = batch.completion_mask.size(1)
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        output = model(input_ids=batch.ids, attention_mask=batch.mask, logits_to_keep=num_columns + 1)
    logits = output.logits[:, :-1].float()
    targets = batch.ids[:, -num_columns:].unsqueeze(-1)
    result: Tensor = logits.gather(-1, targets).squeeze(-1) - logits.logsumexp(-1)
    return result
