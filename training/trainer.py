"""TRL's GRPOTrainer on responses that are given instead of generated.

TRL does the loss, the backward passes and the optimizer. Here is only what differs from it:

    rows -> micro-batches, scored once at the start -> every optimizer step goes over all of them

GRPOTrainer would generate inside `_prepare_inputs`, group by a fixed number of generations, pad all rows to
the longest, and report means of micro-batch means. Its data loader and `_prepare_inputs` are replaced;
`_compute_loss` is its own. Both names are private to TRL: its version is pinned, and
`tests/training/test_grpo.py` compares the result with an independent implementation.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, set_peft_model_state_dict
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from trl import import_utils

from training.policy import Policy


@contextmanager
def _without_vllm() -> Iterator[None]:
    """Keep TRL from importing vLLM, where that is installed: seconds and hundreds of modules for
    generation that never happens here. TRL asks one function whether to; it says no in this block."""
    is_vllm_available = import_utils.is_vllm_available
    import_utils.is_vllm_available = lambda min_version=None: False
    try:
        yield
    finally:
        import_utils.is_vllm_available = is_vllm_available


with _without_vllm():
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer


@dataclass(frozen=True)
class StepMeasures:
    """What one optimizer step measured, over all completion tokens of the job."""

    step: int
    loss: float
    kl: float
    clip_ratio: float
    grad_norm: float
    learning_rate: float
    seconds: float


class SuppliedResponsesTrainer(GRPOTrainer):
    """GRPO over fixed micro-batches.

    Args:
        policy: lends the model, the tokenizer and the device.
        args: `gradient_accumulation_steps` and `steps_per_generation` are the number of micro-batches.
        lora: a PEFT configuration; TRL puts the fresh adapter on.
        batches: from `training.batches.micro_batches`.
        parent_weights: of the adapter to continue from; None: the fresh one stays.
        on_step: called after each optimizer step.
        before_step: called before each optimizer step; what it raises ends the training.
    """

    def __init__(
        self,
        policy: Policy,
        args: GRPOConfig,
        lora: PeftConfig,
        batches: list[dict[str, Tensor]],
        parent_weights: dict[str, Tensor] | None,
        on_step: Callable[[StepMeasures], None],
        before_step: Callable[[], None],
    ) -> None:
        super().__init__(
            model=policy.model,
            reward_funcs=_no_reward,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""]}),
            processing_class=policy.tokenizer,
            peft_config=lora,
            callbacks=[_StepBegin(self, before_step)],
        )
        self.remove_callback(PrinterCallback)
        self._batches = batches
        self._is_fresh = parent_weights is None
        if parent_weights is not None:
            self._load_adapter(parent_weights)
        self._on_step = on_step
        self._start_of_step = 0.0
        self._log_probs = torch.zeros(0)
        self._inputs: dict[str, Any] = {}
        self._has_dropout = bool(getattr(lora, "lora_dropout", 0))
        self._sums = torch.zeros(3, device=policy.device)

    def _load_adapter(self, weights: dict[str, Tensor]) -> None:
        """Not by handing TRL a loaded PeftModel: it would make that adapter the reference of the KL, and
        ours is the base model."""
        result: Any = set_peft_model_state_dict(self.model, weights)
        wrong = [name for name in result.missing_keys if "lora_" in name] + list(result.unexpected_keys)
        if wrong:
            raise ValueError(f"the parent adapter does not fit the model: {wrong[:3]}")

    def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """One epoch: all micro-batches, once per optimizer step, with the log-probabilities at the start."""
        batches = [self._scored(batch) for batch in self._batches]
        steps: Any = batches * self.args.max_steps
        # As they are and not copied: what the first step fills in, the later ones find.
        return DataLoader(steps, batch_size=None, collate_fn=lambda batch: batch)

    def _scored(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """`batch` with (B, C) log-probabilities of the starting policy and of the base model, no dropout.

        None stands for what the first optimizer step computes anyway, before it has changed anything: those
        of the starting policy, and with a fresh adapter, whose B matrices are zero, those of the base model.
        """
        model: Any = self.model
        model.eval()
        old = ref = None
        with torch.no_grad():
            if self._has_dropout:
                old = self._log_probs_of(batch)
            if not self._is_fresh:
                with model.disable_adapter():
                    ref = self._log_probs_of(batch)
            elif self._has_dropout:
                ref = old
        return {**batch, "old_per_token_logps": old, "ref_per_token_logps": ref}

    def _log_probs_of(self, batch: dict[str, Tensor]) -> Tensor:
        input_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        log_probs: Tensor
        log_probs, _, _ = self._get_per_token_logps_and_entropies(
            self.model, input_ids, attention_mask, batch["completion_ids"].size(1)
        )
        return log_probs

    def _prepare_inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return batch

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> tuple[Any, Any, Any]:
        result: tuple[Any, Any, Any] = super()._get_per_token_logps_and_entropies(*args, **options)
        self._log_probs = result[0].detach()
        for name in ("old_per_token_logps", "ref_per_token_logps"):
            if self._inputs.get(name, self) is None:
                self._inputs[name] = self._log_probs
        return result

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """TRL's loss of one micro-batch, a scalar; adds what it measures to the sums of the step."""
        self._inputs = inputs
        loss: Tensor = super()._compute_loss(model, inputs)
        self._inputs = {}
        mask = inputs["completion_mask"]
        # Schulman's k3 estimator of KL(policy || base), as in DeepSeekMath arXiv:2402.03300, equation 4.
        log_ratio_to_base = inputs["ref_per_token_logps"] - self._log_probs
        kl = log_ratio_to_base.exp() - log_ratio_to_base - 1
        ratio = (self._log_probs - inputs["old_per_token_logps"]).exp()
        advantages = inputs["advantages"].unsqueeze(1)
        is_clipped = ((ratio > 1 + self.epsilon_high) & (advantages > 0)) | (
            (ratio < 1 - self.epsilon_low) & (advantages < 0)
        )
        self._sums += torch.stack([loss.detach(), (kl * mask).sum(), (is_clipped * mask).sum()])
        return loss

    def begin_step(self) -> None:
        self._sums.zero_()
        self._start_of_step = time.perf_counter()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called by Trainer after each optimizer step, and with a summary at the end that is not used."""
        self._metrics["train"].clear()
        if "grad_norm" not in logs:
            return
        loss, kl, num_clipped = self._sums.tolist()
        num_tokens = int(self._batches[0]["num_items_in_batch"])
        self._on_step(
            StepMeasures(
                step=self.state.global_step,
                loss=loss,
                kl=kl / num_tokens,
                clip_ratio=num_clipped / num_tokens,
                grad_norm=logs["grad_norm"],
                learning_rate=logs["learning_rate"],
                seconds=time.perf_counter() - self._start_of_step,
            )
        )

    def _send_telemetry(self) -> None:
        """A private service tells nobody what it trains."""


class _StepBegin(TrainerCallback):
    def __init__(self, trainer: SuppliedResponsesTrainer, before_step: Callable[[], None]) -> None:
        self._trainer = trainer
        self._before_step = before_step

    def on_step_begin(self, *args: Any, **options: Any) -> None:
        self._before_step()
        self._trainer.begin_step()


def _no_reward(**columns: Any) -> list[float | None]:
    raise AssertionError("rewards are given with the responses; TRL never asks for them")
