"""Supervised training and DPO make the steps that TRL's own trainers make of the same data."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

from registry.records import Method, Schedule
from tests.support import reference_grpo
from tests.support.method_jobs import BETA, EXAMPLES, METHODS, PAIRS, method_assignment
from tests.support.tiny_jobs import MemoryStates, first_gradient, run, tiny_resident
from training.worker.adapter import WEIGHTS_FILE
from training.worker.resident_model import ResidentModel
from training.worker.rows import rows_of_examples
from training.worker.trainer_arguments import seed_of

STEPS = 3
VALUES: dict[str, Any] = {
    "learning_rate": 1e-2,
    "max_steps": STEPS,
    "per_device_train_batch_size": 5,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 1,
    "weight_decay": 0.0,
    "max_grad_norm": math.inf,
    "seed": seed_of("job"),
    "gradient_checkpointing": False,
    "use_cpu": True,
    "bf16": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def sft_trainer(weights: Path, resident: ResidentModel, scratch: Path) -> Any:
    """TRL's trainer on the examples of weight 1, as token ids with labels."""
    from trl import SFTConfig, SFTTrainer

    rows = rows_of_examples(resident, EXAMPLES)
    columns: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for exchange in (row.exchange for row in rows if row.advantage == 1):
        is_trained = exchange.is_trained or [True] * len(exchange.completion_ids)
        labels = [token if t else -100 for token, t in zip(exchange.completion_ids, is_trained, strict=True)]
        columns["input_ids"].append(exchange.prompt_ids + exchange.completion_ids)
        columns["labels"].append([-100] * len(exchange.prompt_ids) + labels)
    return SFTTrainer(
        model=reference_grpo.base_model(weights),
        args=SFTConfig(output_dir=str(scratch), **VALUES),
        train_dataset=Dataset.from_dict(columns),
        processing_class=resident.tokenizer,
        peft_config=lora(),
    )


def dpo_trainer(weights: Path, resident: ResidentModel, scratch: Path) -> Any:
    """TRL's trainer on the pairs, as texts that it tokenises."""
    from trl import DPOConfig, DPOTrainer

    columns = {
        "prompt": [pair.messages[0].content for pair in PAIRS],
        "chosen": [pair.preferred[0].content for pair in PAIRS],
        "rejected": [pair.rejected[0].content for pair in PAIRS],
    }
    return DPOTrainer(
        model=reference_grpo.base_model(weights),
        args=DPOConfig(output_dir=str(scratch), beta=BETA, **VALUES),
        train_dataset=Dataset.from_dict(columns),
        processing_class=resident.tokenizer,
        peft_config=lora(),
    )


class FirstGradient(TrainerCallback):
    """Keeps the gradient of the first step, in the order of the weights."""

    def __init__(self) -> None:
        self.of_weights: list[Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **trained: Any) -> None:
        if not self.of_weights:
            weights = reference_grpo.adapter_weights(trained["model"]).values()
            self.of_weights = [weight.grad.clone() for weight in weights]


def lora() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")


@pytest.fixture(scope="module")
def resident(tiny_weights: Path) -> ResidentModel:
    return tiny_resident(tiny_weights)


@pytest.mark.parametrize("method", METHODS)
def test_losses_gradients_and_rates_are_those_of_trl(
    tiny_weights: Path, resident: ResidentModel, tmp_path: Path, method: Method
) -> None:
    """TRL makes the fresh adapter of the same seed, and all steps with its own loop and schedule."""
    make = sft_trainer if method is Method.SUPERVISED else dpo_trainer
    trainer = make(tiny_weights, resident, tmp_path / "trl")
    gradient = FirstGradient()
    trainer.add_callback(gradient)
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    assignment = method_assignment(
        method,
        STEPS,
        examples=tuple(example for example in EXAMPLES if example.weight == 1),
        warmup_ratio=0.3,
        schedule=Schedule.COSINE,
    )
    states = MemoryStates()
    steps = [step.shown() for step in run(resident, tmp_path / "adapter", assignment, None, states)]
    assert len(history) == len(steps) == STEPS
    for name in ("loss", "grad_norm", "learning_rate"):
        theirs = [entry[name] for entry in history]
        assert [step[name] for step in steps] == pytest.approx(theirs, rel=1e-4, abs=1e-4), name
    for ours, weight in zip(first_gradient(states), gradient.of_weights, strict=True):
        assert torch.allclose(ours, weight, atol=1e-4, rtol=1e-4)
    names = {"token_accuracy": "mean_token_accuracy"}
    if method is Method.DPO:
        names = {"reward_margin": "rewards/margins"}
    for our_name, their_name in names.items():
        theirs = [entry[their_name] for entry in history]
        assert [step[our_name] for step in steps] == pytest.approx(theirs, rel=1e-3, abs=1e-3), our_name
    made = load_file(tmp_path / "adapter" / WEIGHTS_FILE)
    weights = reference_grpo.adapter_weights(trainer.model)
    assert all(torch.allclose(made[name], weights[name], atol=1e-3) for name in made)
