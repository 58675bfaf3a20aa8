"""The baselines of the tasks that show their answers: TRL's SFTTrainer and DPOTrainer as they are."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from bench.learning.asking import Judge
from bench.learning.curves import Curve, HeldOut, Round, ShownSetup
from bench.learning.shown_tasks import SHOWN_TASKS, rate_of, shown
from registry.records import Method

NUM_THREADS = 2


def learn(weights: Path, method: Method, setup: ShownSetup, seed: int) -> Curve:
    """Teach a fresh adapter on the model in `weights`; prints a line for each epoch."""
    torch.set_num_threads(NUM_THREADS)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    recorder = _Recorder(method, tokenizer)
    with TemporaryDirectory(prefix="tiger-bench-trl-") as scratch:
        shared = {
            "model": AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32),
            "processing_class": tokenizer,
            "peft_config": LoraConfig(
                r=setup.rank, lora_alpha=setup.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            "callbacks": [recorder],
        }
        arguments = _arguments(method, setup, seed, scratch)
        trainer = (
            SFTTrainer(args=SFTConfig(**arguments), train_dataset=_examples(), **shared)
            if method is Method.SUPERVISED
            else DPOTrainer(args=DPOConfig(beta=setup.beta, **arguments), train_dataset=_pairs(), **shared)
        )
        trainer.train()
    return recorder.curve()


def _arguments(method: Method, setup: ShownSetup, seed: int, scratch: str) -> dict[str, Any]:
    """The arguments that both trainers have. All else is TRL's default: gradients are clipped at norm 1."""
    return {
        "output_dir": scratch,
        "seed": seed,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": setup.batch_size,
        "num_train_epochs": setup.epochs,
        "learning_rate": rate_of(method, setup),
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _examples() -> Dataset:
    return Dataset.from_list(
        [
            {"prompt": [_turn("user", each.prompt)], "completion": [_turn("assistant", each.wanted)]}
            for each in shown(Method.SUPERVISED)
        ]
    )


def _pairs() -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": [_turn("user", each.prompt)],
                "chosen": [_turn("assistant", each.wanted)],
                "rejected": [_turn("assistant", each.unwanted)],
            }
            for each in shown(Method.DPO)
        ]
    )


class _Recorder(TrainerCallback):
    """Measures the model before the first epoch and after each."""

    def __init__(self, method: Method, tokenizer: Any) -> None:
        self._method = method
        self._judge = Judge(SHOWN_TASKS[method], tokenizer)
        self._start: HeldOut | None = None
        self._rounds: list[Round] = []
        self._began_at = 0.0

    def curve(self) -> Curve:
        assert self._start is not None
        return Curve(self._start, self._rounds)

    def on_train_begin(self, args: Any, state: Any, control: Any, **trained: Any) -> None:
        self._start = self._judge.scores(trained["model"])
        self._began_at = time.perf_counter()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **trained: Any) -> None:
        train_s = time.perf_counter() - self._began_at
        held_out, kl, other_kl = self._judge.measure(trained["model"])
        self._rounds.append(Round(len(self._rounds) + 1, None, kl, held_out, 0.0, train_s, other_kl))
        print(f"TRL    {self._method.value:7} {self._rounds[-1].as_line()}", flush=True)
        self._began_at = time.perf_counter()
