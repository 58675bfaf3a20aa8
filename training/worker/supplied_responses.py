"""TRL's GRPOTrainer on responses that are given instead of generated.

TRL has the loss, the optimizer and its loop. This file has only the differences:

    rows -> packs -> every optimizer step goes over all of them, in as many passes as memory needs

GRPOTrainer would generate, group by a fixed number of generations, and pad all rows to the longest. Its data
loader, `training_step` and `_get_per_token_logps_and_entropies` are replaced; `_compute_loss` is TRL's, and
its measures are added up. The names with an underscore are private to TRL. Its version is pinned, and
`tests/training/test_job.py` compares the result with an independent implementation.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, get_peft_model_state_dict
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback

from training.types import Place, StepMeasures
from training.worker.adapter import load_weights
from training.worker.log_probs import log_probs
from training.worker.memory_fit import Memory
from training.worker.packs import Pack, Row
from training.worker.resident_model import ResidentModel
from training.worker.scores import Scores
from training.worker.state import PartialStep, TrainingState, by_parameter, random_state, set_random_state
from training.worker.step_sums import StepSums
from training.worker.trl_private import GRPOConfig, GRPOTrainer


class SuppliedResponsesTrainer(GRPOTrainer):
    """GRPO over given rows.

    Args:
        resident: the model, the tokenizer, the device, the workers, and the pack size that fits in memory.
        args: one batch is one optimizer step; `max_steps` counts from `state`.
        lora: a PEFT configuration, from which TRL makes the fresh adapter.
        rows: the rows of the whole job; this worker takes its share of them.
        is_fresh: the job began with a fresh adapter.
        weights: the weights of the adapter to continue from; None: the fresh adapter stays.
        optimizer_state: the state of the optimizer to continue with; None: a new optimizer.
        state: the state of an earlier attempt or turn of this job, to continue from.
        on_step: called after each optimizer step, with a function that makes the state after that step.
        look: called before each pack by all workers together. Its error, raised on all, ends the training.
    """

    def __init__(
        self,
        resident: ResidentModel,
        args: GRPOConfig,
        lora: PeftConfig,
        rows: list[Row],
        is_fresh: bool,
        weights: dict[str, Tensor] | None,
        optimizer_state: dict[str, Tensor] | None,
        state: TrainingState | None,
        on_step: Callable[[StepMeasures, Callable[[int], TrainingState]], None],
        look: Callable[[Place], None],
    ) -> None:
        super().__init__(
            model=resident.model,
            reward_funcs=_no_reward,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""]}),
            processing_class=resident.tokenizer,
            peft_config=lora,
        )
        self.remove_callback(PrinterCallback)
        num_tokens = sum(len(row.exchange.completion_ids) for row in rows)
        partial = state.partial if state is not None else None
        max_tokens = partial.max_tokens_per_pack if partial is not None else None
        self._memory = Memory(resident, self.model, rows, max_tokens)
        self._workers = resident.workers
        self._is_sharded = resident.is_sharded
        self._resumed = state
        self._optimizer_tensors = optimizer_state
        self._num_tokens = torch.tensor(float(num_tokens), device=resident.device)
        has_dropout = bool(getattr(lora, "lora_dropout", 0))
        self._scores = Scores(num_tokens, resident.device, is_fresh, has_dropout, state)
        if weights is not None:
            load_weights(self.model, weights)
        self._on_step = on_step
        self._look = look
        self._first_step = state.step if state is not None else 0
        self._start_of_step = 0.0
        self._at_hand: dict[str, Any] = {}
        self._log_probs = torch.zeros(0)
        self._device = resident.device
        self._sums = StepSums(resident.device)
        self._num_done = 0

    def get_train_dataloader(self) -> DataLoader[dict[str, int]]:
        """One batch is one optimizer step over all packs; there is nothing else to load."""
        steps: Any = [{"step": step} for step in range(self.args.max_steps)]
        return DataLoader(steps, batch_size=None)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if self._optimizer_tensors is not None:
            states = by_parameter(self._optimizer_tensors)
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
            self._optimizer_tensors = None
        return optimizer

    def optimizer_state(self) -> dict[str, Tensor]:
        """A copy of the optimizer's state on the CPU."""
        states: dict[int, dict[str, Tensor]] = self.optimizer.state_dict()["state"]
        return _on_cpu({f"{n}/{name}": t for n, state in states.items() for name, t in state.items()})

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Run forward and backward over all packs of this worker, then sum the gradients of all workers.

        Between two packs all workers call `look` together. A job can stop only there.
        """
        self._begin_step()
        is_through = False
        while not is_through:
            self._look(self._place())
            is_through = self._all_advance(model)
        gradients = [_gradient(weight) for _, weight in self._trained()]
        self._workers.sum([*gradients, self._sums.tensor])
        self._scores.complete(self._workers)
        return self._sums.loss

    def _begin_step(self) -> None:
        partial = None
        if self._resumed is not None:
            # Not before this: Trainer seeds the generators, and its data loader draws from them.
            set_random_state(self._resumed.random, self._device)
            partial, self._resumed = self._resumed.partial, None
        self._start_of_step = time.perf_counter()
        if partial is None:
            self._begin_again()
            return
        self._start_of_step -= partial.seconds
        self._num_done = partial.num_done
        self._sums.tensor.copy_(partial.sums)
        for name, weight in self._trained():
            if name in partial.gradients:
                weight.grad = partial.gradients[name].to(weight.device, copy=True)

    def _begin_again(self) -> None:
        """Begin the step from its start, with no pack done."""
        self._num_done = 0
        self._sums.tensor.zero_()
        self.model.zero_grad(set_to_none=True)
        self._scores.begin_again()

    def _place(self) -> Place:
        return Place(
            step=self._first_step + self.state.global_step + 1,
            steps=self._first_step + self.args.max_steps,
            share=self._num_done / max(self._num_passes, 1),
        )

    @property
    def _num_scored_apart(self) -> int:
        return len(self._memory.packs) if self._scores.take_passes else 0

    @property
    def _num_passes(self) -> int:
        return self._num_scored_apart + len(self._memory.packs)

    def _all_advance(self, model: Any) -> bool:
        """Do one more pack on every worker that has one left; return True if all workers are done."""
        if self._is_sharded:
            # All workers have the same number of packs, and wait for each other inside each pack.
            return self._advance(model)
        return all(self._workers.each(lambda: self._advance(model)))

    def _advance(self, model: Any) -> bool:
        if self._num_done < self._num_passes:
            if self._memory.fits(lambda: self._pass(model, self._num_done)):
                self._num_done += 1
            else:
                self._begin_again()
        return self._num_done == self._num_passes

    def _pass(self, model: Any, number: int) -> None:
        if number < self._num_scored_apart:
            with self.compute_loss_context_manager():
                self._scores.take(self.model, self._memory.packs[number])
            return
        if not model.training:
            model.train()
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._inputs(self._memory.packs[number - self._num_scored_apart]))
        self.accelerator.backward(loss)

    def _inputs(self, pack: Pack) -> dict[str, Any]:
        """The inputs of TRL's loss, as one row of C completion tokens, and the pack for the methods below."""
        mask = torch.full_like(pack.targets, int(pack.counts)).unsqueeze(0)
        self._at_hand = {
            "prompt_ids": pack.targets[:0].unsqueeze(0),
            "prompt_mask": mask[:, :0],
            "completion_ids": pack.targets.unsqueeze(0),
            "completion_mask": mask,
            "advantages": pack.advantages.unsqueeze(0),
            "num_items_in_batch": self._num_tokens,
            "pack": pack,
        }
        return self._at_hand

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor, None]:
        """(1, C) log-probabilities of the current pack. The entropies, which are not used here, are zeros."""
        model: Any = self.model
        pack: Pack = self._at_hand["pack"]
        scored = log_probs(model.get_base_model(), pack)
        now = scored.detach()
        self._scores.note(pack, now)
        # TRL reads these after this call.
        self._at_hand["old_per_token_logps"] = self._scores.old[pack.places].unsqueeze(0)
        self._at_hand["ref_per_token_logps"] = self._scores.ref[pack.places].unsqueeze(0)
        self._log_probs = now
        return scored.unsqueeze(0), torch.zeros_like(now).unsqueeze(0), None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """TRL's loss of one pack, a scalar. Adds the measures of the pack to the sums of the step."""
        loss: Tensor = super()._compute_loss(model, inputs)
        pack: Pack = inputs["pack"]
        if pack.counts:
            old, ref = self._scores.old[pack.places], self._scores.ref[pack.places]
            epsilons = (self.epsilon_low, self.epsilon_high)
            self._sums.add(loss, pack, self._log_probs, old, ref, *epsilons)
        return loss

    def _trained(self) -> list[tuple[str, Tensor]]:
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]

    def state_so_far(self) -> TrainingState:
        """A copy on the CPU of the state from which this worker can continue between the same two packs."""
        gradients = {name: weight.grad for name, weight in self._trained() if weight.grad is not None}
        partial = PartialStep(
            num_done=self._num_done,
            max_tokens_per_pack=self._memory.max_tokens,
            gradients=_on_cpu(gradients),
            sums=self._sums.tensor.cpu(),
            seconds=time.perf_counter() - self._start_of_step,
        )
        return replace(self._state_after(self._first_step + self.state.global_step), partial=partial)

    def _state_after(self, step: int) -> TrainingState:
        """A copy on the CPU of the state from which a later attempt can continue."""
        return TrainingState(
            step=step,
            adapter=_on_cpu(get_peft_model_state_dict(self.model, save_embedding_layers=False)),
            optimizer=self.optimizer_state(),
            old=self._scores.old.cpu(),
            ref=self._scores.ref.cpu(),
            random=random_state(self._device),
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Report a step. Trainer calls this after each optimizer step, and at the end with a summary."""
        self._metrics["train"].clear()
        if "grad_norm" not in logs:
            return
        loss, kl, clip_ratio = self._sums.measures(len(self._scores.old))
        self._on_step(
            StepMeasures(
                step=self._first_step + self.state.global_step,
                loss=loss,
                kl=kl,
                clip_ratio=clip_ratio,
                grad_norm=logs["grad_norm"],
                learning_rate=logs["learning_rate"],
                seconds=time.perf_counter() - self._start_of_step,
            ),
            self._state_after,
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
