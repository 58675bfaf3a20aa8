"""One training job: the method of a request, on a LoRA adapter.

    groups, examples or pairs -> rows (tokens, advantage) -> batches -> packs -> PackTrainer -> adapter files

The losses are in `worker.grpo`, `worker.supervised` and `worker.dpo`. Gradients are not clipped, because the
contract of the API has no such value.

A job continues with the optimizer state of the job before it, if that had the same method. Adam's first
updates are little more than the sign of the gradient, noise included. Without the state, trainings of a few
steps would consist of these.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from registry.errors import NoLearningSignal
from registry.records import JobRequest, Method
from training.advantages import advantages
from training.learning_signal import NOTHING_LEFT, is_lost, missing
from training.transcript import response_exchanges
from training.types import (
    Assignment,
    Cancelled,
    GaveWay,
    Place,
    Standing,
    StepMeasures,
    StepProgress,
    TrainingOutcome,
)
from training.worker.adapter import WEIGHTS_FILE, save_adapter
from training.worker.batches import Batches, tokens_until
from training.worker.epoch_ends import EpochEnds, Keep, nothing_is_kept
from training.worker.pack_trainer import PackTrainer
from training.worker.packs import Row
from training.worker.resident_model import ResidentModel
from training.worker.rows import taught_rows, validation_rows
from training.worker.soundness import check_soundness, diverging
from training.worker.state import OptimizerState, States, TrainingState
from training.worker.step_report import progress_of
from training.worker.trainer_arguments import seed_of
from training.worker.validation import Validation


def train(
    resident: ResidentModel,
    assignment: Assignment,
    parent_adapter: Path | None,
    output: Path,
    on_step: Callable[[StepProgress], None],
    is_cancelled: Callable[[], bool],
    states: States | None = None,
    parent_optimizer: OptimizerState | None = None,
) -> tuple[TrainingOutcome, OptimizerState]:
    """Run a `Training` in one turn. `is_cancelled` is called before each pack."""

    def look(place: Place) -> Standing:
        return Standing.IS_CANCELLED if is_cancelled() else Standing.GOES_ON

    training = Training(resident, assignment, parent_adapter, output, on_step, look, states, parent_optimizer)
    made = training.go_on()
    assert made is not None, "it never gives way"
    return made


class Training:
    """One job on the resident base model, in one or more turns.

    All workers of a run call this together. Each gets the same result; only the first calls the callbacks.

    Args:
        parent_adapter: a PEFT directory to continue from; None: a fresh adapter, seeded by the job's id.
        output: gets `adapter_config.json` and `adapter_model.safetensors`, at the very end.
        on_step: called after each optimizer step.
        look: called before each pack; its result says if the job goes on.
        states: loads the state to continue from, and stores new ones; None: start anew, store nothing.
        parent_optimizer: the state of the optimizer that made `parent_adapter`; None: a new optimizer.
        borrowed_gpu: entered for each turn; during its block the worker may use a GPU that it shares.
        keep: publishes the revision of an epoch, if the request wants such revisions.

    Raises:
        InvalidRequest: a conversation cannot be rendered, or is too long.
        NoLearningSignal: there is nothing to learn, as if no response has any tokens.
    """

    def __init__(
        self,
        resident: ResidentModel,
        assignment: Assignment,
        parent_adapter: Path | None,
        output: Path,
        on_step: Callable[[StepProgress], None],
        look: Callable[[Place], Standing],
        states: States | None = None,
        parent_optimizer: OptimizerState | None = None,
        borrowed_gpu: Callable[[], AbstractContextManager[None]] = nullcontext,
        keep: Keep = nothing_is_kept,
    ) -> None:
        self._resident = resident
        self._workers = resident.workers
        self._assignment = assignment
        self._output = output
        self._on_step = on_step
        self._look = look
        self._states = states
        self._borrowed_gpu = borrowed_gpu
        self._is_fresh = parent_adapter is None
        self._rows, self._validation_rows, self._weights, self._state = self._workers.run_on_all(
            lambda: (
                taught_rows(resident, assignment.request) or rows_of(resident, assignment.request),
                validation_rows(resident, assignment.request),
                None if parent_adapter is None else load_file(parent_adapter / WEIGHTS_FILE),
                None if states is None else states.load(),
            )
        )
        values, is_grpo = assignment.request.hyperparameters, assignment.request.method is Method.GRPO
        batch_size = None if is_grpo else values.batch_size
        seed = assignment.request.seed
        seed = seed_of(assignment.job_id) if seed is None else seed
        self._batches = Batches(self._rows, batch_size, seed)
        self._epoch_ends = EpochEnds(resident, assignment, self._rows, keep)
        self._validation: Validation | None = None
        if parent_optimizer is not None and parent_optimizer.method is not assignment.request.method:
            parent_optimizer = None
        self._optimizer_tensors = None if parent_optimizer is None else parent_optimizer.tensors
        self._file: Path | None = None
        self._last: StepProgress | None = None
        self._seconds = 0.0
        self._turn_began = 0.0

    def go_on(self) -> tuple[TrainingOutcome, OptimizerState] | None:
        """Train to the end; returns the outcome, and the optimizer state for the job that continues from it.

        Returns None if `look` said to give way; then call this again for the next turn. The number of turns
        changes no bit of the adapter.

        Raises:
            Cancelled: `look` said that the job is cancelled.
            TrainingFailed: a response is too long for the memory there is.
            TrainingDiverged: loss, gradient, weights or outputs are not finite or exceed their bounds.
        """
        self._turn_began = time.perf_counter()
        if self._resident.is_sharded:
            # An attempt that ran out of memory ended its process, so each attempt halves the packs anew.
            divisor = self._assignment.attempt - 1
            self._resident.max_tokens_per_pack = max(
                1, self._resident.settings.max_tokens_per_pack >> divisor
            )
        with self._borrowed_gpu(), self._resident.lend():
            optimizer_state = self._turn()
        self._seconds = self._seconds_so_far()
        if optimizer_state is None:
            return None
        assert self._last is not None, "the last turn makes a step at least"
        method = self._assignment.request.method
        outcome = self._outcome(self._last, self._seconds)
        return outcome, OptimizerState(self._assignment.job_id, optimizer_state, method)

    def _seconds_so_far(self) -> float:
        return self._seconds + time.perf_counter() - self._turn_began

    def _outcome(self, last: StepProgress, duration_s: float) -> TrainingOutcome:
        """The outcome if `last` is the last step."""
        tokens = tokens_until(last.step, self._rows, self._batches)
        return TrainingOutcome(metrics=self._metrics(last), trained_tokens=tokens, duration_s=duration_s)

    def _metrics(self, last: StepProgress) -> dict[str, float]:
        metrics = {k: v for k, v in last.shown().items() if k not in ("step", "steps", "seconds")}
        if self._assignment.request.method is Method.GRPO:
            metrics |= missing(self._assignment.request.groups)
        return metrics

    def put_aside(self, path: Path) -> None:
        """Between two turns: move the state from memory to a file."""
        assert self._state is not None
        self._state.save(path)
        self._state, self._file = None, path

    def _turn(self) -> dict[str, Tensor] | None:
        """Train for one turn; returns the optimizer state, or None if the job gave way.

        This is a separate function so that the trainer is garbage when the model is given back.
        """
        state = self._take_up()
        with tempfile.TemporaryDirectory(prefix="tiger-train-") as scratch:
            trainer = PackTrainer(
                self._resident,
                self._assignment,
                self._rows,
                self._batches,
                self._is_fresh,
                state.adapter if state is not None else self._weights,
                state.optimizer if state is not None else self._optimizer_tensors,
                state,
                Path(scratch),
                self._record,
                self._between_packs,
            )
            self._weights = self._optimizer_tensors = None
            step = 1 if state is None else state.step + 1
            request = self._assignment.request
            self._validation = Validation(self._resident, request, self._validation_rows, state)
            del state
            try:
                with diverging(lambda: step if self._last is None else self._last.step + 1):
                    self._validation.begin(trainer, self._look_from(step, share=0))
                    trainer.train()
            except GaveWay:
                self._state = self._with_scores(trainer.state_so_far())
                return None
            finally:
                self._validation = None
        with trainer.compute_loss_context_manager():
            last = self._assignment.request.hyperparameters.learning_steps
            self._workers.run_on_all(lambda: check_soundness(trainer.model, self._rows, last))
        if self._workers.is_first:
            save_adapter(trainer.model, self._assignment.base_model, self._output)
        return trainer.optimizer_state()

    def _take_up(self) -> TrainingState | None:
        if self._file is not None:
            self._state = TrainingState.load(self._file)
            # The loaded tensors may still be read from this file, so the next state gets a new one.
            self._file.unlink()
            self._file = None
        state, self._state = self._state, None
        return state

    def _record(self, measures: StepMeasures, trainer: PackTrainer) -> None:
        number, ends = measures.step, self._epoch_ends
        if self._validation is not None and ends.is_end(number):
            look = self._look_from(number, share=1)
            measures.of_method.update(self._validation.measure(trainer, look))
        epoch = self._batches.epochs_after(number)
        step = self._last = progress_of(measures, self._assignment.request, epoch)

        def keep_state() -> None:
            if self._states is not None and number < step.steps and self._states.is_due():
                self._states.keep(self._with_scores(trainer.state_after(number)))

        def tell() -> None:
            self._on_step(step)
            if not ends.keeps_after(number):
                keep_state()

        self._workers.run_on_first(tell)
        if ends.keeps_after(number):
            ends.keep(trainer, number, self._outcome(step, self._seconds_so_far()).numbers())
            self._workers.run_on_first(keep_state)

    def _look_from(self, step: int, share: float) -> Callable[[], None]:
        """Look up during validation, in which a job does not give way: a state has no place for that."""
        steps = self._assignment.request.hyperparameters.learning_steps
        place = Place(step=step, steps=steps, share=share)
        return partial(self._between_packs, place, may_give_way=False)

    def _with_scores(self, state: TrainingState) -> TrainingState:
        assert self._validation is not None
        return replace(state, scores=state.scores | self._validation.scores())

    def _between_packs(self, place: Place, may_give_way: bool = True) -> None:
        standing = self._workers.run_on_first(lambda: self._look(place))
        if standing is Standing.IS_CANCELLED:
            raise Cancelled(self._assignment.job_id)
        if standing is Standing.GIVES_WAY and may_give_way:
            raise GaveWay(self._assignment.job_id)


def rows_of(resident: ResidentModel, request: JobRequest) -> list[Row]:
    """The rows of all responses that have tokens. The rewards of the others still count in their groups.

    A trajectory is one row or more, all with its advantage.

    Raises: InvalidRequest, ContextLengthExceeded, NoLearningSignal.
    """
    rows: list[Row] = []
    sizes = []
    for group in request.groups:
        scores = advantages([response.reward for response in group.responses])
        for response, advantage in zip(group.responses, scores, strict=True):
            exchanges = response_exchanges(resident.tokenizer, group, response, resident.max_context_tokens)
            sizes.append((advantage, sum(exchange.num_trained for exchange in exchanges)))
            rows += [Row(each, advantage, len(sizes)) for each in exchanges if each.completion_ids]
    if not rows or is_lost(sizes):
        raise NoLearningSignal(NOTHING_LEFT)
    return rows
