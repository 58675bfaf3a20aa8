"""Our side of the tasks that show their answers: the training worker, in this process and without HTTP."""

import gc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from bench.learning.asking import Judge
from bench.learning.curves import Curve, Round, ShownSetup
from bench.learning.shown_tasks import SHOWN_TASKS, rate_of, shown, steps_of_epoch
from registry.records import Example, Hyperparameters, JobRequest, Message, Method, Pair
from training.settings import TrainingSettings
from training.types import Assignment, StepProgress
from training.worker.adapter import WEIGHTS_FILE, load_weights, lora_of
from training.worker.job import train
from training.worker.resident_model import ResidentModel
from training.worker.state import TrainingState

NUM_THREADS = 2
MAX_CONTEXT_TOKENS = 2048


class EpochEnds:
    """The weights of the adapter at the end of each epoch but the last."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self.weights: list[dict[str, Tensor]] = []

    def load(self) -> TrainingState | None:
        return None

    def is_due(self) -> bool:
        return True

    def keep(self, state: TrainingState) -> None:
        if state.step % self._num_steps == 0:
            self.weights.append(state.adapter)


def learn(weights: Path, method: Method, setup: ShownSetup, seed: int) -> Curve:
    """Teach a fresh adapter on the model in `weights`. It is measured after the training, epoch by epoch."""
    assignment = _assignment(method, setup, seed)
    adapters, seconds, tokenizer = _adapters(weights, assignment, steps_of_epoch(setup))
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    model: Any = get_peft_model(base, lora_of(assignment))
    measurer = Judge(SHOWN_TASKS[method], tokenizer)
    start = measurer.scores(model)
    rounds = []
    for number, (adapter, train_s) in enumerate(zip(adapters, seconds, strict=True), 1):
        load_weights(model, adapter)
        held_out, kl, other_kl = measurer.measure(model)
        rounds.append(Round(number, None, kl, held_out, 0.0, train_s, other_kl))
        print(f"tiger  {method.value:7} {rounds[-1].as_line()}", flush=True)
    return Curve(start, rounds)


def _adapters(
    weights: Path, assignment: Assignment, num_steps: int
) -> tuple[list[dict[str, Tensor]], list[float], Any]:
    """The adapters after each epoch of `num_steps` steps, the seconds of its steps, and the tokenizer."""
    settings = TrainingSettings(threads_per_worker=NUM_THREADS, max_tokens_per_pack=1024)
    resident = ResidentModel(str(weights), settings, MAX_CONTEXT_TOKENS)
    ends, steps = EpochEnds(num_steps), list[StepProgress]()
    with TemporaryDirectory(prefix="tiger-bench-shown-") as directory:
        adapter = Path(directory) / "adapter"
        train(resident, assignment, None, adapter, steps.append, lambda: False, ends)
        last = {name: tensor.clone() for name, tensor in load_file(adapter / WEIGHTS_FILE).items()}
    times = [step.seconds for step in steps]
    seconds = [sum(times[first : first + num_steps]) for first in range(0, len(times), num_steps)]
    tokenizer = resident.tokenizer
    del resident
    gc.unfreeze()
    gc.collect()
    return [*ends.weights, last], seconds, tokenizer


def _assignment(method: Method, setup: ShownSetup, seed: int) -> Assignment:
    return Assignment(
        job_id=f"bench-{method.value}-{seed}",
        attempt=1,
        user="bench",
        uid="bench",
        base_model="bench",
        parent_revision=0,
        has_parent_adapter=False,
        revision=1,
        rank=setup.rank,
        alpha=float(setup.alpha),
        dropout=0.0,
        request=_request(method, setup),
    )


def _request(method: Method, setup: ShownSetup) -> JobRequest:
    values = Hyperparameters(
        learning_rate=rate_of(method, setup),
        learning_steps=setup.epochs * steps_of_epoch(setup),
        beta=setup.beta,
        epsilon=0.2,
        batch_size=setup.batch_size,
    )
    if method is Method.SUPERVISED:
        examples = tuple(
            Example(messages=(_user(each.prompt), _assistant(each.wanted))) for each in shown(method)
        )
        return JobRequest(method=method, examples=examples, hyperparameters=values)
    pairs = tuple(
        Pair(
            messages=(_user(each.prompt),),
            preferred=(_assistant(each.wanted),),
            rejected=(_assistant(each.unwanted),),
        )
        for each in shown(method)
    )
    return JobRequest(method=method, pairs=pairs, hyperparameters=values)


def _user(content: str) -> Message:
    return Message(role="user", content=content)


def _assistant(content: str) -> Message:
    return Message(role="assistant", content=content)
