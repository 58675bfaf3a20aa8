"""TRL's GRPOTrainer on packs of given rows, for every method.

TRL has the adapter, the optimizer and its loop, and the loss of GRPO. This file has only the differences:

    rows -> batches -> packs -> every optimizer step goes over a batch, in as many passes as memory needs

GRPOTrainer would generate, group by a fixed number of generations, and pad all rows to the longest. Its data
loader, `training_step` and `_get_per_token_logps_and_entropies` are replaced. The loss of a pack is that of
an `Objective`; that of GRPO calls TRL's. The names with an underscore are private to TRL. Its version is
pinned, and `tests/training` compares the results with independent implementations.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model_state_dict
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback

from training.types import Assignment, Place, StepMeasures
from training.worker.adapter import load_weights, lora_of
from training.worker.batches import Batches
from training.worker.learning_rate import scheduler_of
from training.worker.memory_fit import Memory
from training.worker.objectives import objective_of
from training.worker.packs import Pack, Row
from training.worker.resident_model import ResidentModel
from training.worker.state import PartialStep, TrainingState, by_parameter, random_state, set_random_state
from training.worker.trainer_arguments import trainer_arguments
from training.worker.trl_private import GRPOTrainer


class PackTrainer(GRPOTrainer):
    """The optimizer steps of a job.

    Args:
        resident: the model, the tokenizer, the device, the workers, and the pack size that fits in memory.
        assignment: the method, its hyperparameters and the shape of the adapter. TRL makes the fresh adapter.
        rows: the rows of the whole job; this worker takes its share of them.
        batches: the rows of each step.
        is_fresh: the job began with a fresh adapter.
        weights: the weights of the adapter to continue from; None: the fresh adapter stays.
        optimizer_state: the state of the optimizer to continue with; None: a new optimizer.
        state: the state of an earlier attempt or turn of this job, to continue from.
        scratch: a directory that TRL may write to.
        on_step: called after each optimizer step, with this trainer.
        look: called before each pack by all workers together. Its error, raised on all, ends the training.
    """

    def __init__(
        self,
        resident: ResidentModel,
        assignment: Assignment,
        rows: list[Row],
        batches: Batches,
        is_fresh: bool,
        weights: dict[str, Tensor] | None,
        optimizer_state: dict[str, Tensor] | None,
        state: TrainingState | None,
        scratch: Path,
        on_step: Callable[[StepMeasures, "PackTrainer"], None],
        look: Callable[[Place], None],
    ) -> None:
        super().__init__(
            model=resident.model,
            reward_funcs=_no_reward,
            args=trainer_arguments(resident, assignment, state, scratch),
            train_dataset=Dataset.from_dict({"prompt": [""]}),
            processing_class=resident.tokenizer,
            peft_config=lora_of(assignment),
        )
        self.remove_callback(PrinterCallback)
        self._objective = objective_of(assignment, rows, resident.device, is_fresh, state, self._trl_loss)
        partial = state.partial if state is not None else None
        max_tokens = partial.max_tokens_per_pack if partial is not None else None
        self._memory = Memory(resident, self.model, rows, self._objective.keeps_items, max_tokens)
        self._batches = batches
        self._hyperparameters = assignment.request.hyperparameters
        self._workers = resident.workers
        self._is_sharded = resident.is_sharded
        self._resumed = state
        self._optimizer_tensors = optimizer_state
        if weights is not None:
            load_weights(self.model, weights)
        self._on_step = on_step
        self._look = look
        self._first_step = state.step if state is not None else 0
        self._start_of_step = 0.0
        self._scored = torch.zeros(0)
        self._device = resident.device
        self._num_done = 0

    def get_train_dataloader(self) -> DataLoader[dict[str, int]]:
        """One batch is the number of one optimizer step; there is nothing else to load."""
        steps: Any = [{"step": self._first_step + 1 + number} for number in range(self.args.max_steps)]
        return DataLoader(steps, batch_size=None)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if self._optimizer_tensors is not None:
            states = by_parameter(self._optimizer_tensors)
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
            self._optimizer_tensors = None
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The scheduler of the whole job, at the place that the job has reached."""
        optimizer = optimizer or self.optimizer
        self.lr_scheduler = scheduler_of(optimizer, self._hyperparameters, self._first_step)
        return self.lr_scheduler

    def optimizer_state(self) -> dict[str, Tensor]:
        """A copy of the optimizer's state on the CPU."""
        states: dict[int, dict[str, Tensor]] = self.optimizer.state_dict()["state"]
        return _on_cpu({f"{n}/{name}": t for n, state in states.items() for name, t in state.items()})

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Run forward and backward over all packs of this worker, then sum the gradients of all workers.

        Packs that have to be scored first are scored by all workers before the first is trained on. Between
        two packs all workers call `look` together. A job can stop only there.
        """
        objective = self._objective
        self._begin_step(int(inputs["step"]))
        if objective.scores.take_passes:
            self._go_through(model)
            objective.scores.complete_passes(self._workers)
            self._num_done = 0
        self._go_through(model)
        gradients = [_gradient(weight) for _, weight in self._trained()]
        self._workers.sum([*gradients, objective.sums])
        objective.scores.complete_step(self._workers)
        return objective.sums[0]

    def _begin_step(self, step: int) -> None:
        partial = None
        if self._resumed is not None:
            # Not before this: Trainer seeds the generators, and its data loader draws from them.
            set_random_state(self._resumed.random, self._device)
            partial, self._resumed = self._resumed.partial, None
        self._start_of_step = time.perf_counter()
        numbers = self._batches.of_step(step)
        takes_passes = self._objective.scores.take_passes
        to_score = self._batches.of_steps(self._hyperparameters.learning_steps) if takes_passes else ()
        self._memory.begin_step(numbers, to_score)
        self._objective.begin_step(numbers)
        self._begin_again()
        if partial is None:
            return
        self._start_of_step -= partial.seconds
        self._num_done = partial.num_done
        self._objective.sums.copy_(partial.sums)
        for name, weight in self._trained():
            if name in partial.gradients:
                weight.grad = partial.gradients[name].to(weight.device, copy=True)

    def _begin_again(self) -> None:
        """Begin the step from its start, with no pack done. Scores of packs stay what they are."""
        self._num_done = 0
        self._objective.sums.zero_()
        self.model.zero_grad(set_to_none=True)

    def _place(self) -> Place:
        num_to_score = len(self._memory.packs_to_score)
        num_passes = num_to_score + len(self._memory.packs)
        num_before = 0 if self._objective.scores.take_passes else num_to_score
        return Place(
            step=self._first_step + self.state.global_step + 1,
            steps=self._first_step + self.args.max_steps,
            share=(num_before + self._num_done) / max(num_passes, 1),
        )

    def _go_through(self, model: Any) -> None:
        """Do all passes of this worker that score, if they are not done, or else all that train."""
        is_through = False
        while not is_through:
            self._look(self._place())
            is_through = self._all_advance(model)

    def _all_advance(self, model: Any) -> bool:
        """Do one more pack on every worker that has one left; return True if all workers are done."""
        if self._is_sharded:
            # All workers have the same number of packs, and wait for each other inside each pack.
            return self._advance(model)
        return all(self._workers.each(lambda: self._advance(model)))

    def _advance(self, model: Any) -> bool:
        if self._num_done < len(self._packs):
            if self._memory.fits(lambda: self._pass(model, self._packs[self._num_done])):
                self._num_done += 1
            else:
                self._begin_again()
        return self._num_done == len(self._packs)

    @property
    def _packs(self) -> list[Pack]:
        """The packs that this worker goes through now."""
        is_scoring = self._objective.scores.take_passes
        return self._memory.packs_to_score if is_scoring else self._memory.packs

    def _pass(self, model: Any, pack: Pack) -> None:
        if self._objective.scores.take_passes:
            with self.compute_loss_context_manager():
                self._objective.score(self.model, pack)
            return
        if not model.training:
            model.train()
        with self.compute_loss_context_manager():
            loss = self._objective.loss(self.model, pack)
        self.accelerator.backward(loss)

    def _trl_loss(self, scored: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """TRL's loss, which gets the log-probabilities (C,) from the method below."""
        self._scored = scored
        loss: Tensor = self.compute_loss(self.model, inputs)
        return loss

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor, None]:
        """(1, C) log-probabilities of the current pack. The entropies, which are not used here, are zeros."""
        # What is kept here would keep the activations of the pack.
        scored, self._scored = self._scored, torch.zeros(0)
        return scored.unsqueeze(0), torch.zeros_like(scored.detach()).unsqueeze(0), None

    def _trained(self) -> list[tuple[str, Tensor]]:
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]

    def state_so_far(self) -> TrainingState:
        """A copy on the CPU of the state from which this worker can continue between the same two packs."""
        gradients = {name: weight.grad for name, weight in self._trained() if weight.grad is not None}
        partial = PartialStep(
            is_scored=not self._objective.scores.take_passes,
            num_done=self._num_done,
            max_tokens_per_pack=self._memory.max_tokens,
            gradients=_on_cpu(gradients),
            sums=self._objective.sums.cpu(),
            seconds=time.perf_counter() - self._start_of_step,
        )
        return replace(self.state_after(self._first_step + self.state.global_step), partial=partial)

    def state_after(self, step: int) -> TrainingState:
        """A copy on the CPU of the state from which a later attempt can continue."""
        return TrainingState(
            step=step,
            adapter=_on_cpu(get_peft_model_state_dict(self.model, save_embedding_layers=False)),
            optimizer=self.optimizer_state(),
            scores=_on_cpu(self._objective.scores.tensors),
            random=random_state(self._device),
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report a step. Trainer calls this after each optimizer step, and at the end with a summary."""
        self._metrics["train"].clear()
        if "grad_norm" not in logs:
            return
        self._on_step(
            StepMeasures(
                step=self._first_step + self.state.global_step,
                of_method=self._objective.measures(),
                grad_norm=logs["grad_norm"],
                learning_rate=logs["learning_rate"],
                seconds=time.perf_counter() - self._start_of_step,
            ),
            self,
        )

    def _send_telemetry(self) -> None:
        """Send nothing: a private service reports its trainings to nobody."""


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors on the CPU; the next step changes the originals."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _gradient(weight: Tensor) -> Tensor:
    """The gradient of a weight: zeros if no pack of this worker reached the weight."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def _no_reward(**columns: Any) -> list[float | None]:
    raise AssertionError("rewards are given with the responses; TRL never asks for them")
