"""Measures optimizer steps of supervised training against a hand-written loop and TRL's SFTTrainer.

All three train a fresh adapter on one resident model, on the same tokens, in turns of a few steps. SFTTrainer
packs its rows, as we do, into packs of the same size. Its step goes over one pack after another.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from bench.steps import RANK, by_hand, ours
from registry.records import Example, Hyperparameters, JobRequest, Message, Method
from training.worker.resident_model import ResidentModel
from training.worker.rows import rows_of_examples

NUM_TURNS = 2
LEARNING_RATE = 1e-5
MAX_LOSS_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class ExampleShape:
    """The shape of a step. Lengths are in words, which make a token each; answers have half of it to all."""

    examples: int
    prompt_tokens: int
    answer_tokens: int


def supervised_job(shape: ExampleShape, words: list[str], steps: int) -> JobRequest:
    """A job whose steps all go over all examples. All examples differ."""

    def text(length: int, seed: int) -> str:
        return " ".join(words[(seed * 7 + i * 3 + i // 12) % len(words)] for i in range(length))

    examples = []
    for number in range(shape.examples):
        length = max(1, shape.answer_tokens * (shape.examples + number) // (2 * shape.examples - 1 or 1))
        prompt = Message(role="user", content=text(shape.prompt_tokens, number + 5))
        answer = Message(role="assistant", content=text(length - 1 or 1, number * 31))
        examples.append(Example(messages=(prompt, answer)))
    values = Hyperparameters(
        learning_rate=LEARNING_RATE, learning_steps=steps, beta=0.1, epsilon=0.2, batch_size=shape.examples
    )
    return JobRequest(method=Method.SUPERVISED, examples=tuple(examples), hyperparameters=values)


def compare_supervised(resident: ResidentModel, shape: ExampleShape, job: JobRequest) -> dict[str, Any]:
    """The seconds of a step of each side: the median of all turns. A ratio is ours divided by another's.

    Raises: RuntimeError: the sides do not start with the same loss, so they do not compute the same.
    """
    sides: dict[str, Callable[[ResidentModel, JobRequest], dict[str, Any]]] = {
        "tiger": ours,
        "by_hand": by_hand,
        "sft_trainer": sft_trainer,
    }
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(NUM_TURNS):
        for name, side in sides.items():
            turns[name].append(side(resident, job))
    losses = {name: found[0]["losses"][0] for name, found in turns.items()}
    if max(losses.values()) - min(losses.values()) > MAX_LOSS_DIFFERENCE:
        raise RuntimeError(f"the sides do not compute the same: {losses}")
    seconds = {name: statistics.median(turn["step_s"] for turn in found) for name, found in turns.items()}
    rows = rows_of_examples(resident, job.examples)
    row = {
        "examples": shape.examples,
        "prompt_tokens": shape.prompt_tokens,
        "answer_tokens": shape.answer_tokens,
        "tokens_per_step": sum(len(row.exchange.prompt_ids + row.exchange.completion_ids) for row in rows),
        "step_s": {name: round(value, 4) for name, value in seconds.items()},
        "step_s_of_turns": {name: [turn["step_s"] for turn in found] for name, found in turns.items()},
        "first_loss": losses,
        "ratio": {name: round(seconds["tiger"] / seconds[name], 3) for name in sides if name != "tiger"},
    }
    print(f"supervised {shape}: {row['step_s']} s a step, ratio {row['ratio']}", flush=True)
    return row


def sft_trainer(resident: ResidentModel, job: JobRequest) -> dict[str, Any]:
    """TRL's steps on the resident model. The first one is not counted, as with the others."""
    rows = [row.exchange for row in rows_of_examples(resident, job.examples)]
    data = Dataset.from_list(
        [
            {
                "input_ids": [*row.prompt_ids, *row.completion_ids],
                "completion_mask": [0] * len(row.prompt_ids) + [1] * len(row.completion_ids),
            }
            for row in rows
        ]
    )
    clock = _Clock()
    with TemporaryDirectory(prefix="tiger-bench-sft-") as scratch, resident.lend() as base:
        base.set_attn_implementation("sdpa")
        arguments = _arguments(resident, job, scratch)
        trainer = SFTTrainer(
            model=base,
            args=arguments,
            train_dataset=data,
            processing_class=resident.tokenizer,
            peft_config=LoraConfig(
                r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[clock],
        )
        # The trainer has packed the rows now. A step goes over all packs, as ours does.
        arguments.gradient_accumulation_steps = len(trainer.train_dataset)
        trainer.train()
    return {"step_s": round(statistics.median(clock.seconds[1:]), 4), "losses": clock.losses}


def _arguments(resident: ResidentModel, job: JobRequest, scratch: str) -> SFTConfig:
    return SFTConfig(
        output_dir=scratch,
        use_cpu=resident.device.type == "cpu",
        bf16=False,
        packing=True,
        max_length=resident.max_tokens_per_pack,
        completion_only_loss=True,
        gradient_checkpointing=resident.checkpoints,
        per_device_train_batch_size=1,
        max_steps=job.hyperparameters.learning_steps,
        learning_rate=job.hyperparameters.learning_rate,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class _Clock(TrainerCallback):
    """The seconds and the loss of each optimizer step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._began_at = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **trained: Any) -> None:
        self._began_at = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **trained: Any) -> None:
        self.seconds.append(time.perf_counter() - self._began_at)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **trained: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])
