"""Measures if supervised training and DPO teach what TRL's trainers teach, from the same data.

    python -m bench.methods        (make bench-methods)

    supervised   50 questions for capitals, answered with the city in brackets; beside TRL's SFTTrainer
    dpo          pairs of that answer and of a sentence, of which the first is preferred; beside DPOTrainer

Both sides start from the same weights and make the same number of steps, with the same rates, in batches of
the same size. Three things differ on purpose: TRL clips gradients at norm 1, shuffles in another order, and
learns the line break that the chat template writes after an answer. The measures are of greedy answers to
questions for other countries: `form` is the part that has the form, `right` the part that names the city, and
`kept` the mean log-probability, in nats per token, of the base model's own answers to other questions.
"""

import argparse
import json
import math
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from bench.capitals import CAPITALS, HELD_OUT, question, unwanted, wanted
from bench.machine import describe
from registry.records import Example, Hyperparameters, JobRequest, Message, Method, Pair, Schedule
from serve_app.instance.weights import prepare_weights
from serve_app.settings import load_settings
from training.types import Assignment
from training.worker.job import train
from training.worker.resident_model import ResidentModel

RANK, ALPHA = 16, 32
EPOCHS, BATCH_SIZE = 3, 10
STEPS = EPOCHS * math.ceil(len(CAPITALS) / BATCH_SIZE)
RATES = {Method.SUPERVISED: 2e-4, Method.DPO: 1e-4}
BETA = 0.1
ANSWER_TOKENS = 24
OTHER_QUESTIONS = (
    "Tell me about cats.",
    "What is the sea?",
    "Describe bread.",
    "Name three colours.",
    "What is music?",
    "How do I boil an egg?",
)


@dataclass(frozen=True)
class Measures:
    """The measures of one model. `seconds` is the time of its training."""

    form: float
    right: float
    kept: float
    seconds: float
    answers: list[str]


class Judge:
    """Asks models the held-out questions. What the base model answers to others, it must keep."""

    def __init__(self, weights: Path, tokenizer: Any) -> None:
        self._weights = weights
        self._tokenizer = tokenizer
        base = self.base_model()
        self._own = [(text, self._answer(base, text)) for text in OTHER_QUESTIONS]

    def base_model(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self._weights, dtype=torch.float32).eval()

    def measure(self, model: Any, seconds: float = 0.0) -> Measures:
        model.eval()
        answers = [
            self._tokenizer.decode(self._answer(model, question(country)), skip_special_tokens=True)
            for country in HELD_OUT
        ]
        cities = HELD_OUT.values()
        return Measures(
            form=statistics.fmean(bool(re.fullmatch(r"\[[^\[\]\n]+\]", each.strip())) for each in answers),
            right=statistics.fmean(city in each for city, each in zip(cities, answers, strict=True)),
            kept=round(statistics.fmean(self._log_prob(model, *own) for own in self._own), 3),
            seconds=round(seconds, 1),
            answers=answers,
        )

    def _prompt(self, text: str) -> torch.Tensor:
        messages = [{"role": "user", "content": text}]
        prompt: torch.Tensor = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        return prompt

    def _answer(self, model: Any, text: str) -> torch.Tensor:
        prompt = self._prompt(text)
        with torch.no_grad():
            tokens: torch.Tensor = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                max_new_tokens=ANSWER_TOKENS,
            )
        return tokens[0, prompt.size(1) :]

    def _log_prob(self, model: Any, text: str, answer: torch.Tensor) -> float:
        prompt = self._prompt(text)
        with torch.no_grad():
            logits = model(input_ids=torch.cat([prompt[0], answer]).unsqueeze(0)).logits
        scored = logits[0, prompt.size(1) - 1 : -1].log_softmax(-1).gather(1, answer.unsqueeze(1))
        return float(scored.mean())


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def request_of(method: Method) -> JobRequest:
    values = Hyperparameters(
        learning_rate=RATES[method],
        learning_steps=STEPS,
        beta=BETA,
        epsilon=0.2,
        batch_size=BATCH_SIZE,
        schedule=Schedule.LINEAR,
    )
    if method is Method.SUPERVISED:
        examples = tuple(
            Example(messages=(_user(question(country)), _assistant(wanted(city))))
            for country, city in CAPITALS.items()
        )
        return JobRequest(method=method, examples=examples, hyperparameters=values)
    pairs = tuple(
        Pair(
            messages=(_user(question(country)),),
            preferred=(_assistant(wanted(city)),),
            rejected=(_assistant(unwanted(country, city)),),
        )
        for country, city in CAPITALS.items()
    )
    return JobRequest(method=method, pairs=pairs, hyperparameters=values)


def _user(content: str) -> Message:
    return Message(role="user", content=content)


def _assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


def teach_tiger(resident: ResidentModel, method: Method, judge: Judge) -> Measures:
    assignment = Assignment(
        job_id=f"bench-{method.value}",
        attempt=1,
        user="bench",
        uid="bench",
        base_model="bench",
        parent_revision=0,
        has_parent_adapter=False,
        revision=1,
        rank=RANK,
        alpha=float(ALPHA),
        dropout=0.0,
        request=request_of(method),
    )
    with TemporaryDirectory(prefix="tiger-bench-methods-") as directory:
        adapter = Path(directory) / "adapter"
        outcome, _ = train(resident, assignment, None, adapter, lambda step: None, lambda: False)
        return judge.measure(PeftModel.from_pretrained(judge.base_model(), str(adapter)), outcome.duration_s)


def teach_trl(method: Method, judge: Judge, tokenizer: Any) -> Measures:
    make = _sft_trainer if method is Method.SUPERVISED else _dpo_trainer
    with TemporaryDirectory(prefix="tiger-bench-trl-") as scratch:
        began_at = time.perf_counter()
        trainer = make(judge, tokenizer, scratch)
        trainer.train()
        return judge.measure(trainer.model, time.perf_counter() - began_at)


def _shared(method: Method, scratch: str) -> dict[str, Any]:
    return {
        "output_dir": scratch,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": BATCH_SIZE,
        "max_steps": STEPS,
        "learning_rate": RATES[method],
        "lr_scheduler_type": "linear",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _lora() -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")


def _sft_trainer(judge: Judge, tokenizer: Any, scratch: str) -> Any:
    rows = [
        {"prompt": [turn("user", question(country))], "completion": [turn("assistant", wanted(city))]}
        for country, city in CAPITALS.items()
    ]
    return SFTTrainer(
        model=judge.base_model(),
        args=SFTConfig(**_shared(Method.SUPERVISED, scratch)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=_lora(),
    )


def _dpo_trainer(judge: Judge, tokenizer: Any, scratch: str) -> Any:
    rows = [
        {
            "prompt": [turn("user", question(country))],
            "chosen": [turn("assistant", wanted(city))],
            "rejected": [turn("assistant", unwanted(country, city))],
        }
        for country, city in CAPITALS.items()
    ]
    return DPOTrainer(
        model=judge.base_model(),
        args=DPOConfig(beta=BETA, **_shared(Method.DPO, scratch)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=_lora(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench/results/methods.json"))
    options = parser.parse_args()
    settings = load_settings("local")
    model = settings.models[0]
    weights = prepare_weights(model, settings.weights_directory.expanduser())
    resident = ResidentModel(str(weights), model.training, model.max_context_tokens)
    judge = Judge(weights, resident.tokenizer)
    report: dict[str, Any] = {"machine": describe(), "steps": STEPS, "batch_size": BATCH_SIZE}
    report["before"] = asdict(judge.measure(judge.base_model()))
    for method in RATES:
        sides: dict[str, Callable[[], Measures]] = {
            "tiger": partial(teach_tiger, resident, method, judge),
            "trl": partial(teach_trl, method, judge, resident.tokenizer),
        }
        report[method.value] = {}
        for side, teach in sides.items():
            found = asdict(teach())
            report[method.value][side] = found
            print(f"{method.value:10} {side:5} {json.dumps({k: found[k] for k in found if k != 'answers'})}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
