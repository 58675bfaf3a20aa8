"""The baseline: TRL's GRPOTrainer as it is, which generates its own samples with transformers."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from bench.learning.asking import held_out_answers
from bench.learning.curves import Curve, HeldOut, Round, Setup, judge
from bench.learning.tasks import Task

MICRO_BATCH_SIZE = 8


def learn(weights: Path, task: Task, setup: Setup, seed: int) -> Curve:
    """Teach a fresh adapter on the model in `weights`; prints a line for each round."""
    rows = [
        {"prompt": task.messages(example), "number": number} for number, example in enumerate(task.training)
    ]
    with TemporaryDirectory(prefix="tiger-bench-trl-") as scratch:
        recorder = _Recorder(task, setup)
        trainer = GRPOTrainer(
            model=str(weights),
            reward_funcs=recorder.rewards,
            args=_arguments(task, setup, seed, scratch),
            train_dataset=Dataset.from_list(rows),
            peft_config=LoraConfig(
                r=setup.rank, lora_alpha=setup.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[recorder],
        )
        trainer.train()
    return recorder.curve()


def _arguments(task: Task, setup: Setup, seed: int, scratch: str) -> GRPOConfig:
    num_batches = len(task.training) * setup.group_size // MICRO_BATCH_SIZE
    return GRPOConfig(
        output_dir=scratch,
        seed=seed,
        use_cpu=True,
        bf16=False,
        model_init_kwargs={"dtype": "float32"},
        gradient_checkpointing=False,
        # A round has `group_size` samples of every training prompt, and `learning_steps` steps over them all.
        num_generations=setup.group_size,
        per_device_train_batch_size=MICRO_BATCH_SIZE,
        gradient_accumulation_steps=num_batches,
        steps_per_generation=num_batches,
        num_iterations=setup.learning_steps,
        max_steps=setup.num_rounds * setup.learning_steps,
        max_completion_length=task.max_tokens,
        # The loss is that of the contract of `/v1/train`. All else is TRL's default: gradients are clipped at
        # norm 1, and the optimizer state is kept for the whole run.
        learning_rate=setup.learning_rate,
        lr_scheduler_type="constant",
        loss_type="dapo",
        scale_rewards="group",
        beta=setup.beta,
        use_bias_correction_kl=False,
        epsilon=setup.epsilon,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class _Recorder(TrainerCallback):
    """Scores the samples, reads the log of each round's last step, and then asks the held-out prompts."""

    def __init__(self, task: Task, setup: Setup) -> None:
        self._task = task
        self._setup = setup
        self._start: HeldOut | None = None
        self._rounds: list[Round] = []
        self._reward = 0.0
        self._began_at = self._generated_at = 0.0

    def curve(self) -> Curve:
        assert self._start is not None
        return Curve(self._start, self._rounds)

    def rewards(self, completions: list[Any], number: list[int], **columns: Any) -> list[float]:
        """The rewards of a round's samples. TRL calls this after it has computed their log-probabilities."""
        scores = [
            self._task.reward(self._task.training[index], completion[0]["content"])
            for index, completion in zip(number, completions, strict=True)
        ]
        self._reward = sum(scores) / len(scores)
        self._generated_at = time.perf_counter()
        return scores

    def on_train_begin(self, args: Any, state: Any, control: Any, **trained: Any) -> None:
        self._start = self._ask(trained["model"], trained["processing_class"])
        self._began_at = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **trained: Any) -> None:
        if "kl" not in logs or state.global_step % self._setup.learning_steps:
            return
        now = time.perf_counter()
        self._rounds.append(
            Round(
                number=state.global_step // self._setup.learning_steps,
                reward=self._reward,
                kl=logs["kl"],
                held_out=self._ask(trained["model"], trained["processing_class"]),
                generate_s=self._generated_at - self._began_at,
                train_s=now - self._generated_at,
            )
        )
        print(f"TRL    {self._task.name:7} {self._rounds[-1].as_line()}", flush=True)
        self._began_at = time.perf_counter()

    def _ask(self, model: Any, tokenizer: Any) -> HeldOut:
        answers = held_out_answers(model, tokenizer, self._task)
        return judge(self._task, [answer.text for answer in answers])
