"""Measures the loss and the accuracy of the validation examples or pairs of a job, without learning them.

    validation rows -> chunks -> packs -> the loss of the job's objective, forward only -> sums of all workers

DPO compares with the model that the job begins with. The validation pairs are scored with it before the
first step, and the states of the job keep these scores.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from registry.records import JobRequest, Method
from training.worker.batches import Batches
from training.worker.dpo import START, Dpo
from training.worker.memory_fit import Memory
from training.worker.objective import Objective
from training.worker.packs import Pack, Row
from training.worker.resident_model import ResidentModel
from training.worker.state import TrainingState
from training.worker.supervised import Supervised

CHUNK_ITEMS = 64
"""The number of examples or pairs of which packs exist at a time."""
START_OF_VALIDATION = "validation start"
"""The name of the scores in a state of the job."""
ACCURACY = {Method.SUPERVISED: "token_accuracy", Method.DPO: "reward_accuracy"}


class Trainer(Protocol):
    """The part of the `PackTrainer` of a turn that is used here."""

    model: Any

    def compute_loss_context_manager(self) -> Any: ...


class Validation:
    """The validation of one turn of a job. All workers call its methods together.

    Args:
        rows: the validation rows; if there are none, nothing is measured.
        state: the state that the job continues from.
    """

    def __init__(
        self, resident: ResidentModel, request: JobRequest, rows: Sequence[Row], state: TrainingState | None
    ) -> None:
        self._resident = resident
        self._rows = rows
        self._method = request.method
        self._chunks = Batches(rows, CHUNK_ITEMS, seed=0) if rows else None
        self._objective: Objective = (
            Dpo(rows, resident.device, request.hyperparameters.beta, None)
            if request.method is Method.DPO
            else Supervised(rows, resident.device)
        )
        scores = self._objective.scores
        if state is not None and START_OF_VALIDATION in state.scores:
            scores.tensors[START].copy_(state.scores[START_OF_VALIDATION])
            scores.take_passes = False

    def begin(self, trainer: Trainer, look: Callable[[], None]) -> None:
        """Before the first step: score the pairs with the model that the job begins with."""
        scores = self._objective.scores
        if self._chunks is not None and scores.take_passes:
            self._go_through(trainer, self._objective.score, look)
            scores.complete_passes(self._resident.workers)

    def scores(self) -> dict[str, Tensor]:
        """Copies of the scores on the CPU, for the states of the job."""
        tensors = self._objective.scores.tensors
        return {START_OF_VALIDATION: tensors[START].to("cpu", copy=True)} if START in tensors else {}

    def measure(self, trainer: Trainer, look: Callable[[], None]) -> dict[str, float]:
        """The measures of all rows under the model as it is. `look` is called between parts of the work."""
        if self._chunks is None:
            return {}
        objective = self._objective
        objective.sums.zero_()
        objective.begin_step(range(len(self._rows)))
        self._go_through(trainer, objective.loss, look)
        self._resident.workers.sum([objective.sums])
        found = objective.measures()
        return {"valid_loss": found["loss"], "valid_accuracy": found[ACCURACY[self._method]]}

    def _go_through(
        self, trainer: Trainer, act: Callable[[Any, Pack], Any], look: Callable[[], None]
    ) -> None:
        assert self._chunks is not None
        memory = Memory(self._resident, trainer.model, self._rows, self._objective.keeps_items)
        trainer.model.eval()
        for number in range(1, self._chunks.per_epoch + 1):
            look()
            memory.begin_step(self._chunks.of_step(number), ())
            self._resident.workers.run_on_all(lambda: self._go_through_chunk(trainer, memory, act))

    def _go_through_chunk(self, trainer: Trainer, memory: Memory, act: Callable[[Any, Pack], Any]) -> None:
        before, num_done = self._objective.sums.clone(), 0
        with torch.no_grad(), trainer.compute_loss_context_manager():
            while num_done < len(memory.packs):
                pack = memory.packs[num_done]
                if memory.fits(lambda pack=pack: act(trainer.model, pack)):  # type: ignore[misc]
                    num_done += 1
                else:
                    num_done = 0
                    self._objective.sums.copy_(before)
