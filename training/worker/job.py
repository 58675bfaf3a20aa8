"""One training job: GRPO on the responses and rewards of a request, on a LoRA adapter.

    groups -> rows (tokens, advantage) -> packs -> SuppliedResponsesTrainer -> adapter files

The loss is that of DeepSeekMath (arXiv:2402.03300, equation 3), normalised over all completion tokens of all
groups as in DAPO (arXiv:2503.14476, equation 8). It is the mean over the tokens of

    -min(ratio * A, clip(ratio, 1 - epsilon, 1 + epsilon) * A) + beta * KL(policy || base model)

with ratio = policy / policy at the start of this job. Gradients are not clipped, because the contract of the
API has no such value.

A job continues with the optimizer state of the job before it. Adam's first updates are little more than the
sign of the gradient, noise included. Without the state, trainings of a few steps would consist of these.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from registry.errors import NoLearningSignal
from registry.records import JobRequest
from training.advantages import advantages, mean_and_deviation
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
from training.worker.adapter import WEIGHTS_FILE, lora_of, save_adapter
from training.worker.packs import Row
from training.worker.resident_model import ResidentModel
from training.worker.soundness import check_finite, check_soundness, diverging
from training.worker.state import OptimizerState, States, TrainingState
from training.worker.supplied_responses import SuppliedResponsesTrainer
from training.worker.trainer_arguments import trainer_arguments


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

    Raises:
        InvalidRequest: a conversation cannot be rendered, or is too long.
        NoLearningSignal: no response has any tokens.
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
        self._rows, self._weights, self._state = self._workers.run_on_all(
            lambda: (
                rows_of(resident, assignment.request),
                None if parent_adapter is None else load_file(parent_adapter / WEIGHTS_FILE),
                None if states is None else states.load(),
            )
        )
        self._optimizer_tensors = None if parent_optimizer is None else parent_optimizer.tensors
        self._file: Path | None = None
        self._last: StepProgress | None = None
        self._seconds = 0.0

    def go_on(self) -> tuple[TrainingOutcome, OptimizerState] | None:
        """Train to the end; returns the outcome, and the optimizer state for the job that continues from it.

        Returns None if `look` said to give way; then call this again for the next turn. The number of turns
        changes no bit of the adapter.

        Raises:
            Cancelled: `look` said that the job is cancelled.
            TrainingFailed: a response is too long for the memory there is.
            TrainingDiverged: loss, gradient, weights or outputs are not finite or exceed their bounds.
        """
        started = time.perf_counter()
        if self._resident.is_sharded:
            # An attempt that ran out of memory ended its process, so each attempt halves the packs anew.
            divisor = self._assignment.attempt - 1
            self._resident.max_tokens_per_pack = max(
                1, self._resident.settings.max_tokens_per_pack >> divisor
            )
        with self._borrowed_gpu(), self._resident.lend():
            optimizer_state = self._turn()
        self._seconds += time.perf_counter() - started
        if optimizer_state is None:
            return None
        assert self._last is not None, "the last turn makes a step at least"
        num_tokens = sum(len(row.exchange.completion_ids) for row in self._rows)
        outcome = TrainingOutcome(
            metrics={
                **self._last.model_dump(exclude={"step", "steps", "seconds"}),
                **missing(self._assignment.request.groups),
            },
            trained_tokens=num_tokens * self._assignment.request.hyperparameters.learning_steps,
            duration_s=self._seconds,
        )
        return outcome, OptimizerState(self._assignment.job_id, optimizer_state)

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
            trainer = SuppliedResponsesTrainer(
                self._resident,
                trainer_arguments(self._resident, self._assignment, state, Path(scratch)),
                lora_of(self._assignment),
                self._rows,
                self._is_fresh,
                state.adapter if state is not None else self._weights,
                state.optimizer if state is not None else self._optimizer_tensors,
                state,
                self._record,
                self._between_packs,
            )
            self._weights = self._optimizer_tensors = None
            step = 1 if state is None else state.step + 1
            del state
            try:
                with diverging(lambda: step if self._last is None else self._last.step + 1):
                    trainer.train()
            except GaveWay:
                self._state = trainer.state_so_far()
                return None
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

    def _record(self, measures: StepMeasures, make_state: Callable[[int], TrainingState]) -> None:
        step = self._last = _progress(measures, self._assignment.request)

        def tell() -> None:
            self._on_step(step)
            if self._states is not None and step.step < step.steps and self._states.is_due():
                self._states.keep(make_state(step.step))

        self._workers.run_on_first(tell)

    def _between_packs(self, place: Place) -> None:
        standing = self._workers.run_on_first(lambda: self._look(place))
        if standing is Standing.IS_CANCELLED:
            raise Cancelled(self._assignment.job_id)
        if standing is Standing.GIVES_WAY:
            raise GaveWay(self._assignment.job_id)


def rows_of(resident: ResidentModel, request: JobRequest) -> list[Row]:
    """The rows of all responses that have tokens. The rewards of the others still count in their groups.

    A trajectory is one row or more, all with its advantage.

    Raises: InvalidRequest, ContextLengthExceeded, NoLearningSignal.
    """
    rows, sizes = [], []
    for group in request.groups:
        scores = advantages([response.reward for response in group.responses])
        for response, advantage in zip(group.responses, scores, strict=True):
            exchanges = response_exchanges(resident.tokenizer, group, response, resident.max_context_tokens)
            sizes.append((advantage, sum(exchange.num_trained for exchange in exchanges)))
            rows += [Row(exchange, advantage) for exchange in exchanges if exchange.completion_ids]
    if not rows or is_lost(sizes):
        raise NoLearningSignal(NOTHING_LEFT)
    return rows


def _progress(measures: StepMeasures, request: JobRequest) -> StepProgress:
    """The report of a step. Raises: TrainingDiverged, if a measure is not finite."""
    check_finite({"loss": measures.loss, "gradient": measures.grad_norm, "KL": measures.kl}, measures.step)
    rewards = [response.reward for group in request.groups for response in group.responses]
    reward_mean, reward_std = mean_and_deviation(rewards)
    return StepProgress(
        step=measures.step,
        steps=request.hyperparameters.learning_steps,
        loss=measures.loss,
        kl=measures.kl,
        clip_ratio=measures.clip_ratio,
        grad_norm=measures.grad_norm,
        reward_mean=reward_mean,
        reward_std=reward_std,
        learning_rate=measures.learning_rate,
        seconds=measures.seconds,
    )
